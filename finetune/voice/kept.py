"""Keep what was measured of recordings, so that checking them again is quick and an interrupted check goes on."""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .mos import Opinion
from .sound import Sound

VERSION = 1  # of what is measured and how; another one measures again


class Kept:
    """The sounds and transcripts of recordings, by the SHA-256 of their files, in a database."""

    def __init__(self, database: sqlite3.Connection):
        self.database = database

    def sound(self, key: str) -> Sound | None:
        """Return what was measured of a file, or None."""
        found = self._get(f"sound {key}")
        if found is None:
            return None
        values = json.loads(found)
        if values["opinion"]:
            values["opinion"] = Opinion(*values["opinion"])
        if values["voice"]:
            values["voice"] = tuple(values["voice"])
        return Sound(**values)

    def transcript(self, key: str, ears: str) -> str | None:
        """Return what `ears`, a Whisper in a language, heard in a file, or None."""
        return self._get(f"{ears} {key}")

    def add(self, sounds: dict[str, Sound], transcripts: dict[str, str], ears: str) -> None:
        """Keep the sounds and the transcripts of files, all of them or, if interrupted, none."""
        rows = [(f"sound {key}", json.dumps(dataclasses.asdict(sound))) for key, sound in sounds.items()]
        rows += [(f"{ears} {key}", text) for key, text in transcripts.items()]
        with self.database:
            self.database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)

    def _get(self, key: str) -> str | None:
        found = self.database.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None


@contextlib.contextmanager
def keep_in(folder: Path | None) -> Iterator[Kept]:
    """Open what is kept in a folder, which is made; None, or a folder that can't be written to, keeps nothing."""
    with contextlib.closing(_open(folder)) as database:
        yield Kept(database)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, "" if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _open(folder: Path | None) -> sqlite3.Connection:
    table = "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(folder / f"voice-check-{VERSION}.sqlite", timeout=60)
            with database:
                database.execute(table)
            return database
    except (OSError, sqlite3.Error):
        pass
    database = sqlite3.connect(":memory:")
    database.execute(table)
    return database
