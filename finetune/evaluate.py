"""Judge any Whisper on a table: word and letter error rates, an interval, the worst utterances, the time it took."""

import math
import os
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .check import WINDOW, Report, check_rows, drop_contradicted
from .collate import label
from .data import Row, is_table, load, read_rows, stream_rows
from .normalise import normaliser
from .options import Options
from .score import score
from .whisper import load_processor, load_whisper, transcribe

ROWS_IN_MEMORY = 256  # whose audio is decoded at once


def evaluate_whisper(
    model: str | os.PathLike,
    test: str | os.PathLike,
    language: str = "es",
    *,
    full_window: bool = False,
    batch_size: int = 8,
    max_rows: int | None = None,
) -> dict:
    """Judges a Whisper on a table or a dataset of the Hub; rows that can't be used are dropped, counted and named.

    Args:
        model: a folder, a Hub id or a size ("base"); "offline" is the Whisper of hfpipe's offline repo.
        test: a CSV, or `org/name:config:split`. Audio over 30 s is heard as long audio.
        language: ISO 639-1 code of what is said.
        full_window: hear everything in windows of 30 s, as the stock pipeline does, not in windows that just hold it.
        max_rows: at most so many rows, from the first on.

    Returns:
        What `score` gives, with `model`, `language`, `seconds_of_audio`, `seconds`, `rtf` (real-time factor: seconds
        to hear one second), `parameters`, and the check of the rows under `data`.

    Raises:
        OSError, ValueError: no such model or table, or none of its rows can be used.
    """
    whisper, processor = load_whisper(model)
    check_language(whisper, language)
    rows = rows_of(test, max_rows)
    report = check_whisper_rows(rows, str(test), processor, language, longest=math.inf)
    if not report.kept:
        raise ValueError(nothing_left(report))
    judged, _ = judge(whisper, processor, report.kept, language, full_window=full_window, batch_size=batch_size)
    parameters = sum(parameter.numel() for parameter in whisper.parameters())
    return {"model": os.fspath(model), **judged, "parameters": parameters, "data": report.as_dict()}


def compare_whispers(models: list[str], test: str | os.PathLike, language: str = "es", **options) -> list[dict]:
    """Judges several Whispers on the same rows, one after the other; gives what `evaluate_whisper` gives of each.

    Args:
        models: folders, Hub ids or sizes: "tiny", "base", "small" and so on are OpenAI's.
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
    """Looks at every row of a table, and of its test set, and gives a report of each.

    Args:
        model: the Whisper whose tokens are counted.
        hear: also drop the rows that this model's own transcript contradicts.

    Raises:
        OSError, ValueError: no such table or model.
    """
    if hear:
        whisper, processor = load_whisper(model)
    else:
        processor = load_processor(model)
    reports = []
    for source in filter(None, (table, test)):
        report = check_whisper_rows(rows_of(source), os.fspath(source), processor, language)
        if hear and report.kept:
            report = drop_contradicted(
                report, hear_rows(whisper, processor, report.kept, language), normaliser(language)
            )
        reports.append(report)
    return reports


def judge(
    whisper, processor, rows: list[Row], language: str, *, full_window: bool = False, batch_size: int = 8
) -> tuple[dict, list[str]]:
    """Hears checked rows and scores what was heard; gives the scores with times, and the transcripts."""
    start = time.perf_counter()
    heard = hear_rows(whisper, processor, rows, language, full_window=full_window, batch_size=batch_size)
    seconds, audio = time.perf_counter() - start, sum(row.seconds for row in rows)
    times = {"seconds_of_audio": audio, "seconds": seconds, "rtf": seconds / audio}
    window = "30 s" if full_window else "as short as fits"
    return {"language": language, **score(rows, heard, language), **times, "window": window}, heard


def hear_rows(
    whisper, processor, rows: list[Row], language: str | None, *, full_window: bool = False, batch_size: int = 8
) -> list[str]:
    """Transcribes rows, with a progress bar; several processes share them and each gets all the transcripts."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    mine = sorted(range(len(rows)), key=lambda i: rows[i].seconds)[rank::processes]
    heard = {}
    with tqdm(total=len(mine), desc="Hearing", unit="row", disable=rank > 0, leave=False) as bar:
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
            heard |= zip(part, texts, strict=True)
    if distributed:
        parts = [None] * processes
        torch.distributed.all_gather_object(parts, heard)
        heard = {i: text for part in parts for i, text in part.items()}
    return [heard[i] for i in range(len(rows))]


def rows_of(source: str | os.PathLike, max_rows: int | None = None) -> list[Row]:
    """Reads the rows of a table, or the first rows of a dataset of the Hub, whose audio is then kept in memory."""
    if is_table(source):
        return read_rows(source)[:max_rows]
    rows = []
    for row in stream_rows(os.fspath(source)):
        rows.append(row)
        if len(rows) == max_rows:
            break
    return rows


def check_whisper_rows(rows: list[Row], source: str, processor, language: str, longest: float = WINDOW) -> Report:
    """Checks rows, with a progress bar, as this Whisper will get them."""

    def count(sentence: str) -> int:
        return 1 + len(label(processor, sentence, language))

    with tqdm(total=len(rows), desc="Checking", unit="row", leave=False) as bar:
        return check_rows(rows, source, count if longest <= WINDOW else lambda sentence: 0, bar.update, longest)


def check_language(whisper, language: str) -> None:
    """Refuses a language that this Whisper has no token for.

    Raises:
        ValueError: names those it has.
    """
    config = whisper.generation_config
    known = sorted(token.strip("<|>") for token in config.lang_to_id) if config.is_multilingual else ["en"]
    if language not in known:
        raise ValueError(f"this Whisper doesn't know the language {language!r}; valid is one of {', '.join(known)}.")


def nothing_left(report: Report) -> str:
    """Says that no row of a report can be used, and why."""
    reasons = ", ".join(f"{count} {kind}" for kind, count in report.dropped.most_common())
    first = next((p for p in report.problems if p.kind in report.dropped), None)
    shown = f" Line {first.line}: {first.kind}, {first.detail or first.audio}." if first else ""
    return f"none of the {report.rows} rows of {Path(report.source).name} can be used: {reasons}.{shown}"
