"""Read rows of audio and text from a table on disk or a dataset on the Hub, and split them without leaks."""

import dataclasses
import os
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np

from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio

from .audio_files import AUDIO_FILE, FILE_URL, Found, find_files
from .tables import JSON_LINES, Table, list_folder, split_table

AUDIO_COLUMNS = (
    "audio", "path", "file", "file_name", "filename", "audio_path", "audio_filepath", "wav", "archivo", "ruta",
)  # fmt: skip
SENTENCE_COLUMNS = (  # of equally good ones, the first is taken
    "sentence", "raw_transcription", "raw_transcript", "raw_text", "raw_sentence", "original_text",
    "original_sentence", "orthographic_transcription", "text", "transcription", "transcript",
    "transcripcion_original", "texto_original", "texto", "frase", "transcripcion", "transcripción", "normalized_text",
    "normalized_transcription", "normalized_sentence",
)  # fmt: skip
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "hablante", "locutor", "locutora", "voz")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv", "metadata.txt")  # the table of a folder that has one
MISSING = {"nan", "none", "<na>", "null", "nat", "n/a", "#n/a"}  # how pandas and spreadsheets write an empty cell
SAMPLE = 100  # rows by which the text column is chosen
STREAMED_SAMPLE = 8  # the same for a dataset, of which each row is downloaded


@dataclasses.dataclass(frozen=True)
class Row:
    """One utterance: its audio, its text, and the other columns of its row."""

    audio: str | bytes  # a path, or the bytes of an encoded file if streamed from the Hub
    sentence: str
    line: int  # line of the file, from 1; or row of the dataset, from 0
    extra: dict[str, str] = dataclasses.field(default_factory=dict)
    written: str = ""  # the audio cell as written in the table
    cells: int = 0  # surplus (> 0) or missing (< 0) cells
    found: tuple[tuple[str, str], ...] = ()  # problems noticed while reading: kind and detail
    notes: tuple[str, ...] = ()  # how the row was read, in words that rows share
    seconds: float = 0.0  # duration, set by `check_row`
    digest: str = ""  # SHA-256 of the samples, set by `check_row`

    @property
    def name(self) -> str:
        """Return the audio's name for reports, as written in the table: reports are shared, absolute paths aren't."""
        if not self.written:
            return Path(self.audio).name if isinstance(self.audio, str) else f"row {self.line}"
        is_absolute = PureWindowsPath(self.written).root or FILE_URL.match(self.written)
        return PureWindowsPath(self.written).name if is_absolute else self.written

    @property
    def speaker(self) -> str | None:
        """Return the speaker, or None if no column names one."""
        return next((self.extra[name] for name in SPEAKER_COLUMNS if self.extra.get(name)), None)


def read_rows(source: str | os.PathLike) -> list[Row]:
    """Read a table of two or more columns, with or without a header, into rows.

    A table is delimited text, JSON lines (`.jsonl`), or a folder: one with a `metadata.csv`, or of recordings with a
    text file each, see `list_folder`. The delimiter may be `,`, `;`, `|` or a tab, and the encoding UTF-8, UTF-16, or
    (with a warning) Windows-1252, cp850 or Mac Roman. LJSpeech's `id|text|normalized` is such a table.

    Relative paths are resolved against the table's folder, and files that aren't there are looked for below it, see
    `find_files`. Of several columns of text, the one with capitals and punctuation is taken. Text is composed (NFC).
    Other columns than the audio and the sentence are kept in `Row.extra`.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: it isn't a table with an audio and a sentence column.
    """
    path = Path(source)
    if path.is_dir():
        path = next((path / name for name in METADATA if (path / name).is_file()), path)
    elif not path.is_file():
        raise FileNotFoundError(
            f"there is no table {path} (now in {Path.cwd()}). Give a CSV with the columns audio,sentence, or a "
            "dataset of the Hub as 'org/name:config:split'."
        )
    folder = path if path.is_dir() else path.parent
    table = list_folder(path) if path.is_dir() else split_table(path)
    header, body, delimiter = _columns(table), table.rows, table.delimiter
    if table.header is None and _is_header(table.rows[0].cells):
        body = body[1:]
    if not body:
        raise ValueError(f"{path} has a header and no rows; add one row for each audio file.")
    lines, cells, requoted = zip(*body, strict=True)
    audio = _column(header, AUDIO_COLUMNS, path, delimiter)
    sample = [dict(zip(header, row, strict=False)) for row in cells[:SAMPLE]]
    sentence, chosen = _text_column(header, sample, path, delimiter)
    others = [i for i in range(len(header)) if i not in (audio, sentence)]
    padded = [[*(cell.strip() for cell in row), *[""] * (len(header) - len(row))] for row in cells]
    for row in padded:
        row[audio] = _present(row[audio].strip('"'))  # a lost quote
    files = find_files((row[audio] for row in padded), folder)
    notes = tuple(filter(None, (table.note, chosen)))
    rows = []
    for line, row, full, quote in zip(lines, cells, padded, requoted, strict=True):
        file = files.get(full[audio], Found(""))
        text, found = _clean(full[sentence])
        if file.problem:
            found += (("missing file", file.problem),)
        if quote:
            found += (("unpaired quote", quote),)
        place = (f"audio found in {file.place}",) if file.place else ()
        extra = {header[i]: _present(_composed(full[i])) for i in others}
        surplus = len(row) - len(header)
        rows.append(Row(file.path, text, line, extra, full[audio], surplus, found, notes + place))
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
    audio = header[_column(header, AUDIO_COLUMNS, source)]
    stream = stream.cast_column(audio, Audio(decode=False))
    candidates = [name for name in header if name.lower() in SENTENCE_COLUMNS]
    sample = stream.select_columns(candidates).take(STREAMED_SAMPLE) if len(candidates) > 1 else []
    sample = [{name.lower(): str(value or "") for name, value in row.items()} for row in sample]
    index, chosen = _text_column([name.lower() for name in header], sample, source)
    sentence, notes = header[index], (chosen,) if chosen else ()
    for i, row in enumerate(stream):
        extra = {key: _present(str(value)) for key, value in row.items() if key not in (audio, sentence)}
        content = row[audio].get("bytes") or row[audio].get("path") or ""
        text, found = _clean(str(row[sentence] or "").strip())
        yield Row(content, text, i, extra, found=found, notes=notes)


def is_table(source: str | os.PathLike) -> bool:
    """Return whether a source is a table on disk, by its extension or existence, rather than a Hub dataset."""
    source = os.fspath(source)
    return source.lower().endswith((".csv", ".tsv", ".txt", ".psv", *JSON_LINES)) or os.path.isfile(source)


def load(row: Row) -> np.ndarray:
    """Decode a row's audio to float32 (samples,) at 16 kHz."""
    return load_audio(row.audio, SAMPLING_RATE)[0]


def split(
    rows: list, share: float, seed: int, otherwise: str = "a separate test set", by_speaker: bool = True
) -> tuple[list, list]:
    """Split rows in two, the second part with about `share` of them, so that no group of rows is in both.

    The groups are the speakers if there are at least two, and each row that names none is a group of its own;
    otherwise rows with the same text. The result depends on the rows, the share and the seed alone, and keeps the
    order of the rows.

    Args:
        rows: `Row`s, or other objects that have a `sentence` and a `speaker`.
        otherwise: what to give instead of more rows, for the message.
        by_speaker: False makes groups of the rows with the same text only.

    Raises:
        ValueError: there are fewer than two groups.
    """
    by_speaker = by_speaker and len({row.speaker for row in rows if row.speaker}) > 1
    if by_speaker:
        groups = [(row.speaker, 0) if row.speaker else ("", i) for i, row in enumerate(rows)]
    else:
        groups = [(content(row.sentence), 0) for row in rows]
    order = sorted(set(groups))
    if len(order) < 2:
        what = "one row" if len(rows) == 1 else f"{len(rows)} rows that all say the same"
        raise ValueError(f"{what} can't be split into two parts. Give more rows, or {otherwise}.")
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


def _is_header(cells: list[str]) -> bool:
    """Return whether the first row of a table names its columns."""
    is_row = any(AUDIO_FILE.search(cell) for cell in cells)
    return not is_row and bool(set(_names(cells)) & {*AUDIO_COLUMNS, *SENTENCE_COLUMNS})


def _columns(table: Table) -> list[str]:
    """Return the names of a table's columns; without a header, the first two are the audio and the sentence."""
    first = table.rows[0].cells
    if table.header or _is_header(first):
        return _names(table.header or first)
    widths = Counter(len(row.cells) for row in table.rows)
    return ["audio", "sentence", *(f"column{i}" for i in range(3, widths.most_common(1)[0][0] + 1))]


def _names(cells: list[str]) -> list[str]:
    return [_composed(cell).strip(' "\t').lower() for cell in cells]


def _column(header: list[str], names: tuple[str, ...], source, delimiter: str = ",") -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise ValueError(
        f"{source} has the columns {', '.join(header) or 'none'} (separated by {delimiter!r}); one must be called "
        f"{', '.join(names[:3])} …: rename it."
    )


def _text_column(header: list[str], sample: Sequence[dict[str, str]], source, delimiter: str = ",") -> tuple[int, str]:
    """Return the index of the text column, and a note if there was a choice.

    Whisper writes capitals, punctuation and digits, so of several columns the one that most often has them is taken:
    Common corpora have a normalized one beside it.

    Args:
        sample: the first rows, by column.
    """
    first = _column(header, SENTENCE_COLUMNS, source, delimiter)
    names = [name for name in SENTENCE_COLUMNS if name in header]
    if len(names) < 2:
        return first, ""
    best = max(names, key=lambda name: sum(_is_written(row.get(name, "")) for row in sample))
    return header.index(best), f"the text is the column {best!r}, of {', '.join(names)}"


def _is_written(text: str) -> bool:
    """Return whether a text has capitals, punctuation or digits, as people write it."""
    return text != text.upper() and (text != text.lower() or bool(re.search(r"[,.;:?!¿¡\d]", text)))


def _clean(sentence: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return a sentence with its letters composed, "" for a missing one, and what was noticed."""
    if not _present(sentence):
        return "", (("no text", f"{sentence!r}, as pandas writes a missing value"),) if sentence else ()
    composed = _composed(sentence)
    return composed, () if composed == sentence else (("decomposed letters", "NFD"),)


def _composed(text: str) -> str:
    """Compose letters and the accents after them (NFC), and leave all else as it is."""
    return re.sub(r"[^\W\d_][\u0300-\u036f]+", lambda match: unicodedata.normalize("NFC", match[0]), text)


def _present(cell: str) -> str:
    """Return a cell, or "" if it is how a program writes a missing value."""
    return "" if cell.strip().lower() in MISSING else cell
