"""Read rows of audio and text from a table on disk or a dataset on the Hub, and split them without leaks."""

import csv
import dataclasses
import io
import os
import random
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio

DELIMITERS = ",;|\t"
AUDIO_COLUMNS = ("audio", "path", "file", "file_name", "filename", "audio_path", "wav", "archivo", "ruta")
SENTENCE_COLUMNS = (
    "sentence", "text", "transcription", "transcript", "raw_transcription", "normalized_text", "texto", "frase",
    "transcripcion", "transcripción",
)  # fmt: skip
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "hablante", "locutor", "locutora", "voz")
AUDIO_FILE = re.compile(r"\.(wav|flac|mp3|ogg|opus|oga|m4a|aac|webm|mp4|wma|aiff?|au|amr|3gp|sph|g722)\s*$", re.I)
MAX_FIELD = 10_000_000  # characters per cell; the csv module's default is 131072


@dataclasses.dataclass(frozen=True)
class Row:
    """One utterance: its audio, its text, and the other columns of its row."""

    audio: str | bytes  # a path, or the bytes of an encoded file if streamed from the Hub
    sentence: str
    line: int  # line of the file, from 1; or row of the dataset, from 0
    extra: dict[str, str] = dataclasses.field(default_factory=dict)
    written: str = ""  # the audio cell as written in the table
    cells: int = 0  # surplus (> 0) or missing (< 0) cells
    seconds: float = 0.0  # duration, set by `check_row`
    digest: str = ""  # SHA-256 of the samples, set by `check_row`

    @property
    def name(self) -> str:
        """Return the audio's name for reports, as written in the table: reports are shared, absolute paths aren't."""
        return self.written or (Path(self.audio).name if isinstance(self.audio, str) else f"row {self.line}")

    @property
    def speaker(self) -> str | None:
        """Return the speaker, or None if no column names one."""
        return next((self.extra[name] for name in SPEAKER_COLUMNS if self.extra.get(name)), None)


def read_rows(source: str | os.PathLike) -> list[Row]:
    """Read a table of two or more columns, with or without a header, into rows.

    The delimiter may be `,`, `;`, `|` or a tab, and the encoding UTF-8, UTF-16 with a byte order mark, or
    Windows-1252 (with a warning). Relative paths are resolved against the table's folder. Other columns than the audio
    and the sentence are kept in `Row.extra`.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: it isn't a table with an audio and a sentence column.
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no table {path} (now in {Path.cwd()}). Give a CSV with the columns audio,sentence, or a "
            "dataset of the Hub as 'org/name:config:split'."
        )
    text = _decode(path)
    delimiter, table = _parse(text, path)
    lines, cells = zip(*table, strict=True)
    header = [cell.strip().lower() for cell in cells[0]]
    if not any(AUDIO_FILE.search(cell) for cell in cells[0]) and set(header) & {*AUDIO_COLUMNS, *SENTENCE_COLUMNS}:
        lines, cells = lines[1:], cells[1:]
    elif len(header) >= 2:
        counts = [len(row) for row in cells]
        header = ["audio", "sentence", *(f"column{i}" for i in range(3, max(set(counts), key=counts.count) + 1))]
    audio, sentence = (_column(header, names, path, delimiter) for names in (AUDIO_COLUMNS, SENTENCE_COLUMNS))
    rows = []
    for line, row in zip(lines, cells, strict=True):
        full = [*(cell.strip() for cell in row), *[""] * (len(header) - len(row))]
        others = [i for i in range(len(header)) if i not in (audio, sentence)]
        location = full[audio] and str(path.parent / full[audio])
        if full[audio].startswith(("http://", "https://")):
            location = full[audio]
        extra = {header[i]: full[i] for i in others}
        surplus = len(row) - len(header)
        rows.append(Row(location, full[sentence], line, extra, full[audio], surplus))
    if not rows:
        raise ValueError(f"{path} has a header and no rows; add one row for each audio file.")
    return rows


def stream_rows(source: str) -> Iterator[Row]:
    """Stream the rows of a Hub dataset, given as `org/name:config:split`, without writing it to disk.

    The configuration may be empty, and the split defaults to `train`: `google/fleurs:es_419:test`,
    `someone/voices::train`. The audio stays encoded, so that datasets needs neither torchcodec nor FFmpeg.

    Raises:
        ValueError: the dataset can't be reached, or has no audio or no sentence column.
    """
    from datasets import Audio, load_dataset

    name, config, split = (*source.split(":"), "", "")[:3]
    try:
        stream = load_dataset(name, config or None, split=split or "train", streaming=True)
    except Exception as error:  # datasets raises its own errors, the Hub's and fsspec's
        raise ValueError(
            f"could not open the dataset {source} ({type(error).__name__}: {error}). Give a CSV on this machine, or "
            "'org/name:config:split' of a dataset that you may read."
        ) from error
    header = stream.column_names or list(next(iter(stream)))
    audio, sentence = (header[_column(header, names, source)] for names in (AUDIO_COLUMNS, SENTENCE_COLUMNS))
    stream = stream.cast_column(audio, Audio(decode=False))
    for i, row in enumerate(stream):
        extra = {key: str(value) for key, value in row.items() if key not in (audio, sentence)}
        content = row[audio].get("bytes") or row[audio].get("path") or ""
        yield Row(content, str(row[sentence] or "").strip(), i, extra)


def is_table(source: str | os.PathLike) -> bool:
    """Return whether a source is a table on disk, by its extension or existence, rather than a Hub dataset."""
    source = os.fspath(source)
    return source.lower().endswith((".csv", ".tsv", ".txt", ".psv")) or os.path.isfile(source)


def load(row: Row) -> np.ndarray:
    """Decode a row's audio to float32 (samples,) at 16 kHz."""
    return load_audio(row.audio, SAMPLING_RATE)[0]


def split(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows in two, the second part with about `share` of them, so that no group of rows is in both.

    The groups are the speakers if every row names one and there are at least two; otherwise rows with the same text.
    The result depends on the rows, the share and the seed alone, and keeps the order of the rows.

    Raises:
        ValueError: there are fewer than two groups.
    """
    speakers = [row.speaker for row in rows if row.speaker]
    by_speaker = len(speakers) == len(rows) and len(set(speakers)) > 1
    groups = speakers if by_speaker else [content(row.sentence) for row in rows]
    order = sorted(set(groups))
    if len(order) < 2:
        raise ValueError(
            f"{len(rows)} rows that all {'have one speaker' if by_speaker else 'say the same'} can't be split into "
            "two parts. Give more rows, or a separate test set."
        )
    random.Random(seed).shuffle(order)
    sizes = Counter(groups)
    wanted, held, chosen = max(1, round(share * len(rows))), 0, set()
    for group in order:
        if held + sizes[group] <= wanted:
            chosen.add(group)
            held += sizes[group]
    chosen = chosen or {min(order, key=sizes.__getitem__)}
    first = [row for row, group in zip(rows, groups, strict=True) if group not in chosen]
    second = [row for row, group in zip(rows, groups, strict=True) if group in chosen]
    return first, second


def content(sentence: str) -> str:
    """Return a sentence reduced to lower-case letters and digits, to find rows with the same text."""
    return re.sub(r"[\W_]+", " ", sentence.lower()).strip()


def _decode(path: Path) -> str:
    data = path.read_bytes()
    if not data.strip():
        raise ValueError(f"{path} is empty; write one row for each audio file: audio,sentence.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        warnings.warn(f"{path} isn't UTF-8: read as Windows-1252, as Excel writes it. Save it as UTF-8.", stacklevel=3)
        return data.decode("cp1252", errors="replace")


def _parse(text: str, path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the delimiter that yields the most rows with an audio file, and the (line number, cells) of each row."""
    best = max(DELIMITERS, key=lambda delimiter: _fit(_read(text, delimiter)))
    table = _read(text, best)
    if any("\n" in cell for _, row in table for cell in row):  # an unpaired quote swallowed the lines after it
        plain = _read(text, best, csv.QUOTE_NONE)
        if _fit(plain)[0] > _fit(table)[0]:
            table = plain
    if _fit(table)[1] == 0:
        raise ValueError(
            f"{path} is no table of two or more columns; its first line is {text.splitlines()[0][:80]!r}. "
            "Write audio,sentence: one row for each audio file, separated by , ; | or a tab."
        )
    return best, table


def _read(text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> list[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    rows, line = [], 1
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _fit(table: list[tuple[int, list[str]]]) -> tuple[int, int]:
    """Return how many rows have an audio file and another cell, and how many have two or more cells."""
    wide = [row for _, row in table if len(row) > 1]
    return sum(any(AUDIO_FILE.search(cell) for cell in row) for row in wide), len(wide)


def _column(header: list[str], names: tuple[str, ...], source, delimiter: str = ",") -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise ValueError(
        f"{source} has the columns {', '.join(header) or 'none'} (separated by {delimiter!r}); one must be called "
        f"{', '.join(names[:3])} …: rename it."
    )
