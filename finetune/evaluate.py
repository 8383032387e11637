"""Evaluate any Whisper on a table or dataset: error rates with an interval, the worst utterances, and the time."""

import math
import os
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from hfpipe.pipeline.asr_checkpoint import check_language

from .check import Report, check_rows, count_shared_rows, drop_contradicted
from .collate import encode_labels
from .data import Row, is_table, load, read_rows, stream_rows
from .normalize import normalizer
from .options import Options
from .score import score
from .whisper import FULL_WINDOW, load_processor, load_whisper, transcribe

ROWS_IN_MEMORY = 256  # rows whose audio is in memory at once


def evaluate_whisper(
    model: str | os.PathLike,
    test: str | os.PathLike,
    language: str = "es",
    *,
    full_window: bool = False,
    batch_size: int = 8,
    max_rows: int | None = None,
) -> dict:
    """Evaluate a Whisper on a table or a Hub dataset; unusable rows are dropped and reported.

    Args:
        model: a folder, a Hub id or a size ("base"); "offline" is the Whisper of hfpipe's offline repo.
        test: a CSV, or `org/name:config:split`. Audio over 30 s is transcribed as long audio.
        language: ISO 639-1 code of the speech.
        full_window: use the 30 s window for everything, as the stock pipeline does, instead of the shortest one.
        batch_size: rows per batch.
        max_rows: maximum number of rows, from the first.

    Returns:
        The scores of `score`, with `model`, `language`, `seconds_of_audio`, `seconds`, `rtf` (real-time factor:
        seconds of computation per second of audio), `parameters`, and the report of the rows as `data`.

    Raises:
        OSError: the model or the table can't be read.
        ValueError: the model isn't a Whisper that knows the language, or no row is usable.
    """
    whisper, processor = load_whisper(model)
    check_language(whisper, language)
    rows = read_source(test, max_rows)
    report = check_whisper_rows(rows, str(test), processor, language, max_seconds=math.inf)
    if not report.kept:
        raise ValueError(explain_no_rows(report))
    scores, _ = evaluate_rows(
        whisper, processor, report.kept, language, full_window=full_window, batch_size=batch_size
    )
    parameters = sum(parameter.numel() for parameter in whisper.parameters())
    return {"model": os.fspath(model), **scores, "parameters": parameters, "data": report.as_dict()}


def compare_whispers(models: list[str], test: str | os.PathLike, language: str = "es", **options) -> list[dict]:
    """Evaluate several Whispers on the same rows, one after the other.

    Args:
        models: folders, Hub ids, or sizes of OpenAI's models: "tiny", "base", "small" …
        **options: of `evaluate_whisper`.

    Returns:
        The result of `evaluate_whisper` for each model.
    """
    return [evaluate_whisper(model, test, language, **options) for model in models]


def check_table(
    table: str | os.PathLike,
    test: str | os.PathLike | None = None,
    *,
    model: str | os.PathLike = Options.model,
    language: str = "es",
    hear: bool = False,
) -> list[Report]:
    """Check every row of a table, and of its test set, and return a report of each.

    Args:
        model: the Whisper whose tokenizer counts the tokens.
        hear: also drop the rows whose text this model's own transcript contradicts.

    Raises:
        OSError: the table or the model can't be read.
        ValueError: the table or the model isn't one.
    """
    if hear:
        whisper, processor = load_whisper(model)
    else:
        processor = load_processor(model)
    reports = []
    for source in [table, test] if test else [table]:
        report = check_whisper_rows(read_source(source), os.fspath(source), processor, language)
        if hear and report.kept:
            transcripts = transcribe_rows(whisper, processor, report.kept, language)
            report = drop_contradicted(report, transcripts, normalizer(language))
        reports.append(report)
    if test:
        reports[1].shared = count_shared_rows(reports[0].kept, reports[1].kept)
    return reports


def evaluate_rows(
    whisper, processor, rows: list[Row], language: str, *, full_window: bool = False, batch_size: int = 8
) -> tuple[dict, list[str]]:
    """Transcribe and score checked rows; return the scores with times, and the transcripts."""
    start = time.perf_counter()
    transcripts = transcribe_rows(whisper, processor, rows, language, full_window=full_window, batch_size=batch_size)
    seconds, audio = time.perf_counter() - start, sum(row.seconds for row in rows)
    times = {"seconds_of_audio": audio, "seconds": seconds, "rtf": seconds / audio}
    window = "30 s" if full_window else "as short as fits"
    return {"language": language, **score(rows, transcripts, language), **times, "window": window}, transcripts


def transcribe_rows(
    whisper, processor, rows: list[Row], language: str | None, *, full_window: bool = False, batch_size: int = 8
) -> list[str]:
    """Transcribe rows, with a progress bar; processes split the rows, and each returns all transcripts."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    mine = sorted(range(len(rows)), key=lambda i: rows[i].seconds)[rank::processes]
    transcripts = {}
    with tqdm(total=len(mine), desc="Transcribing", unit="row", disable=rank > 0, leave=False) as bar:
        for start in range(0, len(mine), ROWS_IN_MEMORY):
            part = mine[start : start + ROWS_IN_MEMORY]
            texts = transcribe(
                whisper,
                processor,
                [load(rows[i]) for i in part],
                language,
                full_window=full_window,
                batch_size=batch_size,
                on_done=bar.update,
            )
            transcripts |= zip(part, texts, strict=True)
    if distributed:
        parts = [{} for _ in range(processes)]
        torch.distributed.all_gather_object(parts, transcripts)
        transcripts = {i: text for part in parts for i, text in part.items()}
    return [transcripts[i] for i in range(len(rows))]


def read_source(source: str | os.PathLike, max_rows: int | None = None) -> list[Row]:
    """Read the first rows of a table, or of a Hub dataset, whose encoded audio is then kept in memory."""
    if is_table(source):
        return read_rows(source)[:max_rows]
    rows = []
    for row in stream_rows(os.fspath(source)):
        rows.append(row)
        if len(rows) == max_rows:
            break
    return rows


def check_whisper_rows(
    rows: list[Row], source: str, processor, language: str, max_seconds: float = FULL_WINDOW
) -> Report:
    """Check rows, with a progress bar; texts of long audio may have any number of tokens."""

    def count_tokens(sentence: str) -> int:
        return 1 + len(encode_labels(processor, sentence, language)) if max_seconds <= FULL_WINDOW else 0

    with tqdm(total=len(rows), desc="Checking", unit="row", leave=False) as bar:
        return check_rows(rows, source, count_tokens, bar.update, max_seconds)


def explain_no_rows(report: Report) -> str:
    """Return an error message for a report without usable rows: the counts by problem, and the first problem."""
    reasons = ", ".join(f"{count} {kind}" for kind, count in report.dropped.most_common())
    first = next((p for p in report.problems if p.kind in report.dropped), None)
    shown = f" Line {first.line}: {first.kind}, {first.detail or first.audio}." if first else ""
    return f"none of the {report.rows} rows of {Path(report.source).name} is usable: {reasons}.{shown}"
