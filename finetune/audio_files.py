"""Find the audio files that a table names, where they are on this machine."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

AUDIO_FILE = re.compile(r"\.(wav|flac|mp3|ogg|opus|oga|m4a|aac|webm|mp4|wma|aiff?|au|amr|3gp|sph|g722)\s*$", re.I)
USUAL_FOLDERS = ("clips", "audio", "audios", "wav", "wavs")  # Common Voice's, LJSpeech's and other corpora's
FILE_URL = re.compile("^file:/*(localhost/)?", re.I)
URLS = ("http://", "https://")


class Found(NamedTuple):
    """A file of the table: its path, where it was found unless it is where the table says, and why it is missing."""

    path: str
    place: str = ""
    problem: str = ""


def find_files(cells: Iterable[str], folder: Path) -> dict[str, Found]:
    """Find the file of each audio cell of a table, by cell.

    A cell is a path relative to the table's folder or absolute, or a URL. If there is no such file, files below the
    table's folder are looked through, which happens once: the one whose path ends like the cell's is taken, or the one
    of the same name. Spelling differences of systems don't matter: `\\`, the case of letters, composed or decomposed
    accents, percent-encoding, a file:// prefix, or a missing extension. A file that several cells would get belongs
    to none of them.

    Args:
        cells: as written in the table.
        folder: the table's.
    """
    index = _Index(folder)
    found = {cell: index.find(cell) for cell in dict.fromkeys(cells) if cell}
    claims = defaultdict(list)
    for cell, file in found.items():
        claims[file.path].append(cell)
    for cell, file in list(found.items()):
        if file.place and len(claims[file.path]) > 1:
            rival = next((other for other in claims[file.path] if _disagree(_parts(cell), _parts(other))), None)
            if rival:
                found[cell] = Found(_as_written(folder, cell), problem=f"{rival} names the only file of that name")
    return found


class _Index:
    """The audio files below a folder, by their names in one spelling; they are listed on first use."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, cell: str) -> Found:
        """Find one file; a missing one has the path that the table says."""
        path = _as_written(self.folder, cell)
        if cell.startswith(URLS) or os.path.exists(path):
            return Found(path)
        parts = _parts(cell)
        if not parts:
            return Found(path)
        candidates = self.files.get(_spelling(parts[-1]), [])
        if not candidates and not AUDIO_FILE.search(parts[-1]):
            candidates = self.stems.get(_spelling(parts[-1]), [])
        if not candidates:
            return Found(path)
        likeness = [self._likeness(file, parts) for file in candidates]
        best = [file for file, like in zip(candidates, likeness, strict=True) if like == max(likeness)]
        if len(best) > 1:
            return Found(path, problem="there are " + " and ".join("/".join(file) for file in best[:3]))
        common = _common_end(best[0][:-1], parts[:-1])
        above = best[0][: len(best[0]) - 1 - common] if common else best[0][:-1][:1]
        place = f"{'/'.join(above)}/" if above else "the table's folder, in another spelling"
        return Found(str(self.folder.joinpath(*best[0])), place)

    @cached_property
    def files(self) -> dict[str, list[tuple[str, ...]]]:
        """The paths of all files, as parts below the folder, by the spelling of their names."""
        files = defaultdict(list)
        for parts in list_files(self.folder):
            files[_spelling(parts[-1])].append(parts)
        return files

    @cached_property
    def stems(self) -> dict[str, list[tuple[str, ...]]]:
        """The paths of the audio files by the spelling of their names without the extension."""
        stems = defaultdict(list)
        for name, paths in self.files.items():
            if AUDIO_FILE.search(name):
                stems[name.rpartition(".")[0]] += paths
        return stems

    def _likeness(self, file: tuple[str, ...], parts: list[str]) -> tuple:
        """Return how like a file's path is to a cell's; the greater the liker."""
        is_same = unicodedata.normalize("NFC", file[-1]) == unicodedata.normalize("NFC", parts[-1])
        return _common_end(file[:-1], parts[:-1]), is_same, len(file) == 2 and file[0].lower() in USUAL_FOLDERS


def _as_written(folder: Path, cell: str) -> str:
    """Return the path or the URL that a cell is, read as it is written."""
    if cell.startswith(URLS):
        return cell
    return str(folder / (unquote(FILE_URL.sub("/", cell)) if FILE_URL.match(cell) else cell))


def _parts(cell: str) -> list[str]:
    """Return the parts of a path of any system."""
    path = FILE_URL.sub("/", cell).replace("\\", "/")
    path = re.sub(r"^[A-Za-z]:", "", path)
    if re.search("%[0-9A-Fa-f]{2}", path):
        path = unquote(path)
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def _disagree(first: list[str], second: list[str]) -> bool:
    """Return whether two paths name files of the same name in different folders: neither ends like the other."""
    return _common_end(first[:-1], second[:-1]) < min(len(first), len(second)) - 1


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _common_end(first, second) -> int:
    """Return the number of last parts that two paths share."""
    count = 0
    for a, b in zip(reversed(first), reversed(second), strict=False):
        if _spelling(a) != _spelling(b):
            break
        count += 1
    return count


def list_files(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the parts of the path of every file below a folder; a linked folder is entered once."""
    seen, top = set(), str(folder)
    for root, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above = tuple(part for part in os.path.relpath(root, top).split(os.sep) if part != ".")
        yield from ((*above, name) for name in files)
