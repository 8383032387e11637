"""Split tables into rows of cells: delimited text, JSON lines, or a folder of recordings with a text file each."""

import csv
import io
import json
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from .audio_files import AUDIO_FILE, USUAL_FOLDERS, list_files
from .encodings import decode

DELIMITERS = "|\t;,"  # from the rarest in a text: of equally good ones, the first is taken
JSON_LINES = (".jsonl", ".ndjson")
SAMPLE = 100  # rows by which the presence of file names is judged
MAX_FIELD = 2**31 - 1  # characters per cell; the csv module's default is 131072


class Line(NamedTuple):
    """One row of a table: its line in the file, from 1, its cells, and a note on its quotes."""

    line: int
    cells: list[str]
    note: str = ""


class Table(NamedTuple):
    """The rows of a table; `header` is None if the first row may be one, `note` says how the bytes were read."""

    rows: list[Line]
    header: list[str] | None = None
    delimiter: str = ","
    note: str = ""


def split_table(path: Path) -> Table:
    """Read a file of delimited text or of JSON lines, and split it into rows of cells; empty lines are left out.

    Raises:
        ValueError: it is empty, or its rows don't have two or more cells.
    """
    data = path.read_bytes()
    if not data.strip():
        raise ValueError(f"{path} is empty; write one row for each audio file: audio,sentence.")
    text, note = decode(data)
    if note:
        warnings.warn(f"{path}: {note}. Save it as UTF-8.", stacklevel=3)
    if path.suffix.lower() in JSON_LINES:
        return _split_json_lines(text, path)._replace(note=note)
    return _split_text(text, path)._replace(note=note)


def list_folder(folder: Path) -> Table:
    """List the recordings below a folder as a table of audio, sentence and speaker.

    The sentence is what the text file of the same name says, beside the recording or, if only one is called so, in
    another folder (`audio/ana/001.wav`, `transcripts/001.txt`). The speaker is the folder that a recording is in,
    unless that is the folder itself or called like `wavs`. Text files without a recording are rows too.

    Raises:
        ValueError: there are no recordings.
    """
    recordings, texts, by_name = [], {}, defaultdict(list)
    for parts in sorted(list_files(folder)):
        stem = parts[-1].rpartition(".")[0]
        if AUDIO_FILE.search(parts[-1]):
            recordings.append((parts, stem))
        elif parts[-1].lower().endswith(".txt"):
            texts[*parts[:-1], stem] = parts
            by_name[stem].append(parts)
    if not recordings:
        raise ValueError(
            f"{folder} has no recordings; give a table, or a folder of recordings with a .txt beside each."
        )
    names = [stem for _, stem in recordings]
    rows, used = [], set()
    for parts, stem in recordings:
        text = texts.get((*parts[:-1], stem))
        if text is None and len(by_name[stem]) == 1 and names.count(stem) == 1:
            text = by_name[stem][0]
        used.add(text)
        speaker = parts[-2] if len(parts) > 1 and parts[-2].lower() not in USUAL_FOLDERS else ""
        sentence = " ".join(decode(folder.joinpath(*text).read_bytes())[0].split()) if text else ""
        rows.append(["/".join(parts), sentence, speaker])
    rows += [["/".join(parts)[: -len(".txt")], "", ""] for parts in texts.values() if parts not in used]
    return Table([Line(i, cells) for i, cells in enumerate(rows, 1)], ["audio", "sentence", "speaker"])


def _split_json_lines(text: str, path: Path) -> Table:
    """Split JSON lines; a line that isn't an object has no cells, and null is an empty one."""
    objects = []
    for i, line in enumerate(text.split("\n"), 1):  # a JSON string may hold other line ends
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        objects.append((i, found if isinstance(found, dict) else None))
    names = list(dict.fromkeys(name for _, found in objects if found for name in found))
    if len(names) < 2:
        raise ValueError(
            f"{path} has no JSON objects of two or more keys; its first line is {text.splitlines()[0][:80]!r}. Write "
            'one object a line: {"audio": "a.wav", "text": "Hola"}.'
        )
    rows = []
    for i, found in objects:
        values = [found.get(name) for name in names] if found else []
        rows.append(Line(i, ["" if value is None else str(value) for value in values]))
    return Table(rows, names)


def _split_text(text: str, path: Path) -> Table:
    """Split by the delimiter that yields the most rows with an audio file."""
    tables = {delimiter: _read(text, delimiter) for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda delimiter: _fit(tables[delimiter]))
    if _fit(tables[best])[1] == 0:
        raise ValueError(
            f"{path} is no table of two or more columns; its first line is {text.splitlines()[0][:80]!r}. "
            "Write audio,sentence: one row for each audio file, separated by , ; | or a tab."
        )
    return Table(tables[best], delimiter=best)


def _read(text: str, delimiter: str) -> list[Line]:
    """Return the line number, the cells and a note on quotes of each row that isn't empty.

    A quote without its pair makes the csv module take the lines after it for one cell. Such a row is read again, line
    by line; a cell of several lines that are no rows of their own is kept.
    """
    csv.field_size_limit(MAX_FIELD)
    lines = io.StringIO(text, newline="").readlines()
    has_names = any(_is_row(_read_line(line, delimiter), 0) for line in lines[:SAMPLE])
    reader = csv.reader(lines, delimiter=delimiter)
    rows, first = [], 0
    for row in reader:
        last, width = reader.line_num, len(rows[0][1]) if rows else 0
        alone = [_read_line(line, delimiter, width) for line in lines[first:last]] if last > first + 1 else []
        width = width or max(map(len, alone), default=0)
        hides_rows = any(_is_row(cells, 0 if has_names else width) for cells in alone[1:])
        is_text = has_names and not _names_a_file(alone[1:]) and _is_well_formed(lines[first:last], delimiter)
        if hides_rows and not is_text:
            note = f"lines {first + 1} to {last} were read one by one"
            read = [(first + 1 + i, cells, "" if i else note) for i, cells in enumerate(alone)]
        else:
            read = [(first + 1, row, "")]
        rows += [Line(line, cells, note) for line, cells, note in read if any(cell.strip() for cell in cells)]
        first = last
    return rows


def _is_well_formed(lines: list[str], delimiter: str) -> bool:
    """Return whether lines are a row whose quotes are all closed before a delimiter or the end, as they should be."""
    try:
        return len(list(csv.reader(lines, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _names_a_file(rows: list[list[str]]) -> bool:
    """Return whether a cell is an audio file's name alone, rather than a text that ends with one."""
    return any(AUDIO_FILE.search(cell) and " " not in cell.strip() for cells in rows for cell in cells)


def _is_row(cells: list[str], width: int) -> bool:
    """Return whether cells are a row of the table: one names an audio file, or there are `width` if that isn't 0."""
    if width:
        return width > 1 and len(cells) == width
    return len(cells) > 1 and any(AUDIO_FILE.search(cell) for cell in cells)


def _read_line(line: str, delimiter: str, width: int = 0) -> list[str]:
    """Read one line of a table, with a quote that isn't closed taken literally if that gives `width` cells."""
    plain = next(csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE), [])
    quoted = next(csv.reader([line], delimiter=delimiter), [])
    return plain if len(plain) == (width or len(plain)) and line.count('"') % 2 else quoted


def _fit(table: list[Line]) -> tuple[int, int]:
    """Return how many rows have an audio file and another cell, and how many have two or more cells."""
    wide = [row for _, row, _ in table if len(row) > 1]
    return sum(any(AUDIO_FILE.search(cell) for cell in row) for row in wide), len(wide)
