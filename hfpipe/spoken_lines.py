"""Read what is to be spoken, line by line: a text, a table, JSON lines or subtitles."""

import csv
import io
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".srt")
TEXT_COLUMNS = ("text", "sentence", "transcript", "texto", "frase")
NAME_COLUMNS = ("audio", "name", "audio_path", "file")
DELIMITERS = ",;\t|"
FEWEST_DIGITS = 4  # of the number in a file's name
TIMES = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})\s*-->\s*(\d+):(\d\d):(\d\d)[,.](\d{1,3})")
MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")  # "<i>", and "{\an8}" of Advanced SubStation
LONGEST_TRACK = 24 * 3600  # seconds; a WAV holds little more


@dataclass(frozen=True)
class Line:
    """A line to be spoken.

    Attributes:
        number: where it stands: the line of the file, from 1.
        text: what to say.
        file: the name of its sound, relative to the output folder.
        language: BCP 47 tag; "" is the one that all lines have.
        speaker: name of a voice; "" is the one that all lines have.
        speaker_wav: path of a recording of the voice; "" is the one that all lines have.
        start, end: seconds in the subtitles, or None.
        error: why it can't be spoken; "" if it can.
    """

    number: int
    text: str
    file: str = ""
    language: str = ""
    speaker: str = ""
    speaker_wav: str = ""
    start: float | None = None
    end: float | None = None
    error: str = ""


def read_lines(path: str | os.PathLike) -> list[Line]:
    """Read what is to be spoken. What is wrong with a line is said in its `error`, and stops no other.

    Empty lines of a text are left out. A table has a header, with a column `text` and perhaps `audio` (the file to
    write), `language`, `speaker` and `speaker_wav`; JSON lines have the same keys. Where no name is given, a file is
    called `audio_0000.wav`, by the number of lines before it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, not UTF-8, no line to speak, or no column of texts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} (now in {Path.cwd()}); give {', '.join(FORMATS)}.")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} ends in {path.suffix!r}; valid is {', '.join(FORMATS)}.")
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} isn't UTF-8 ({error}). Save it as UTF-8, so that its accents are read.") from error
    readers = {".txt": _read_text, ".jsonl": _read_json, ".srt": _read_subtitles}
    lines = readers.get(path.suffix.lower(), _read_table)(text.replace("\0", ""), path)
    if not lines:
        raise ValueError(f"{path} has no line to speak; write one text per line.")
    return _named(lines)


def _read_text(text: str, path: Path) -> list[Line]:
    return [Line(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _read_table(text: str, path: Path) -> list[Line]:
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=header.count)
    csv.field_size_limit(2**31 - 1)  # characters; 131072 by default
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if not set(reader.fieldnames) & set(TEXT_COLUMNS):
        raise ValueError(
            f"{path} has the columns {', '.join(reader.fieldnames)} (separated by {delimiter!r}); one must be 'text'. "
            "Valid beside it are audio, language, speaker and speaker_wav."
        )
    return [_line_of(reader.line_num, row, path) for row in reader]


def _read_json(text: str, path: Path) -> list[Line]:
    lines = []
    for number, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            row = json.loads(written)
        except ValueError as error:
            lines.append(Line(number, written.strip(), error=f"it isn't JSON: {error}"))
            continue
        if isinstance(row, dict):
            lines.append(_line_of(number, row, path))
        else:
            lines.append(Line(number, written.strip(), error='valid is an object such as {"text": "Hola."}'))
    return lines


def _line_of(number: int, row: dict, path: Path) -> Line:
    """Return the line that a row of a table or an object is; paths in it are relative to the table."""
    plain = {str(name).lower(): value for name, value in row.items() if isinstance(value, str | int | float)}
    cells = {name: str(value).strip() for name, value in plain.items()}
    text, name = (next((cells[key] for key in keys if cells.get(key)), "") for keys in (TEXT_COLUMNS, NAME_COLUMNS))
    error = "" if text else "there is no text"
    if name:
        name, error = _file_name(name), error or _refuse_name(name)
    reference = cells.get("speaker_wav", "")
    reference = str(path.parent / reference) if reference else ""
    return Line(number, text, name, cells.get("language", ""), cells.get("speaker", ""), reference, error=error)


def _read_subtitles(text: str, path: Path) -> list[Line]:
    """Read SubRip: blocks of a number, the times and lines of text."""
    lines, written = [], text.splitlines()
    starts = [i for i, line in enumerate(written) if "-->" in line]
    for place, following in zip(starts, [*starts[1:], None], strict=True):
        block = written[place + 1 : following]
        if following and block and block[-1].strip().isdigit():
            block.pop()  # the number of the next cue
        said = " ".join(MARKUP.sub("", line).strip().removeprefix("-").strip() for line in block).strip()
        found = TIMES.search(written[place])
        if not found:
            error = f"{written[place].strip()!r} isn't such as 00:00:01,000 --> 00:00:02,500"
            lines.append(Line(place + 1, said, error=error))
            continue
        start, end = (_seconds(found.groups()[:4]), _seconds(found.groups()[4:]))
        error = "" if said else "there is no text"
        if not start <= end <= LONGEST_TRACK:
            error = f"it lasts from {start:.1f} s to {end:.1f} s; valid is forward, and at most 24 hours"
        lines.append(Line(place + 1, said, start=start, end=end, error=error))
    return lines


def _seconds(parts: tuple[str, ...]) -> float:
    """Return the seconds of a timestamp's hours, minutes, seconds and the digits after its decimal mark."""
    hours, minutes, seconds, fraction = parts
    return 3600 * int(hours) + 60 * int(minutes) + float(f"{seconds}.{fraction}")


def _file_name(name: str) -> str:
    """Return the name of a sound as that of a WAV."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix(".wav") if path.suffix and not path.suffix[1:].isdigit() else f"{path}.wav")


def _refuse_name(name: str) -> str:
    """Return why a name can't be a file's below the output folder, or ""."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or path.name.startswith("."):
        return f"the name {name!r} leads out of the output folder or is hidden; give one such as 'saludo.wav'"
    return ""


def _named(lines: list[Line]) -> list[Line]:
    """Name the lines that have no name, and refuse names that several have."""
    digits = max(FEWEST_DIGITS, len(str(len(lines) - 1)))
    lines = [line if line.file else replace(line, file=f"audio_{i:0{digits}d}.wav") for i, line in enumerate(lines)]
    counts = Counter(line.file.lower() for line in lines)
    return [
        replace(line, error=f"{counts[line.file.lower()]} lines are to be called {line.file!r}; give each a name")
        if counts[line.file.lower()] > 1 and not line.error
        else line
        for line in lines
    ]
