"""Read the table of a voice's recordings: audio, text, and who speaks with which country's accent."""

import dataclasses
import os
from pathlib import Path

from ..data import Row, read_rows

COUNTRY_COLUMNS = ("country", "pais", "país", "accent", "acento", "accents", "variant")  # the last two: Common Voice


@dataclasses.dataclass(frozen=True)
class VoiceRow:
    """One recording of a voice.

    Attributes:
        audio: the file.
        text: what is said in it, as written in the table.
        speaker: who says it, or None if no column says so.
        country: whose accent it has, or None if no column says so.
        line: line of the table, from 1.
        seconds: its duration, 0 until it was checked.
        digest: SHA-256 of its samples, "" until it was checked.
    """

    audio: Path
    text: str
    speaker: str | None = None
    country: str | None = None
    line: int = 0
    seconds: float = 0.0
    digest: str = ""


def read_table(path: str | os.PathLike) -> list[VoiceRow]:
    """Read every row of a table of recordings, unchecked; `check_voice` says which of them are usable.

    The table is one of

    - delimited text or JSON lines with the columns `audio,text[,speaker,country]`, under any of the names of
      `finetune.data`: `audio_path,transcript,speaker_id,duration` are such;
    - LJSpeech's `id|text|normalized`, without a header, and the recordings in `wavs/` beside it;
    - a folder with one of these as its `metadata.csv`, or of recordings with a `.txt` each, whose folders name the
      speakers.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it has no columns of audio and text, or no rows.
    """
    return [voice_row(row) for row in read_rows(path)]


def voice_row(row: Row) -> VoiceRow:
    """Return a row of any table as one of a voice's."""
    return VoiceRow(
        audio=Path(os.fsdecode(row.audio)),
        text=row.sentence,
        speaker=row.speaker,
        country=next((row.extra[name] for name in COUNTRY_COLUMNS if row.extra.get(name)), None),
        line=row.line,
        seconds=row.seconds,
        digest=row.digest,
    )
