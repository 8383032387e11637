"""Prepare the data of a training: read, check and split it, and refuse leaks into the test set."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from .check import DROPPED, Problem, Report, check_row, drop_contradicted, refuse_leaks
from .collate import encode_labels
from .data import Row, is_table, split, stream_rows
from .evaluate import check_whisper_rows, explain_no_rows, read_source, transcribe_rows
from .normalize import normalizer
from .options import Options

MAX_STREAMED = 1000  # rows of a streamed dataset to test or validate on, which are kept in memory


@dataclasses.dataclass
class Splits:
    """The checked rows of a training; if they are streamed, `train` is empty and `stream` iterates over them."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    reports: dict[str, Report]
    other: list[Row] = dataclasses.field(default_factory=list)
    long: list[Row] = dataclasses.field(default_factory=list)
    stream: Callable[[], Iterator[Row]] | None = None


def prepare(options: Options, whisper, processor, say: Callable[[str], None]) -> Splits:
    """Read and check all the data that the options name, and split it.

    Raises:
        OSError: a table can't be read.
        ValueError: a table isn't one or has no usable row, or the test set shares audio with the training set.
    """
    say("Checking the data")
    reports = {}

    def read(name: str, source: str, language: str, **limits) -> Report:
        rows = read_source(source, None if is_table(source) else MAX_STREAMED)
        report = reports[name] = check_whisper_rows(rows, source, processor, language, **limits)
        if not report.kept:
            raise ValueError(explain_no_rows(report))
        say(f"{name}: {len(report.kept)} of {report.rows} rows are usable ({report.as_dict()['hours']:.2f} h)")
        return report

    test = read("test", options.test, options.language).kept if options.test else []
    other = long = []
    if options.other:
        source, _, language = options.other.rpartition(":")
        other = read("other language", source, language).kept
    if options.long:
        long = read("long audio", options.long, options.language, max_seconds=math.inf).kept
    if not is_table(options.train):
        return _streamed(options, processor, test, other, long, reports)
    report = read("train", options.train, options.language)
    if options.drop_contradicted:
        say("Transcribing the training rows with the base model")
        transcripts = transcribe_rows(whisper, processor, report.kept, options.language, batch_size=options.batch_size)
        report = reports["train"] = drop_contradicted(report, transcripts, normalizer(options.language))
    rows = report.kept
    if options.test:
        refuse_leaks(report, reports["test"])
    else:
        rows, test = split(rows, options.test_share, options.seed)
    validation = []
    if options.validation_share:
        rows, validation = split(rows, options.validation_share, options.seed)
    say(f"Training on {len(rows)} rows, validating on {len(validation)}, testing on {len(test)}")
    return Splits(rows, validation, test, reports, other, long)


def _streamed(options: Options, processor, test, other, long, reports) -> Splits:
    """Hold out the first rows of a stream for validation, and check the others as they arrive."""
    if options.max_steps is None:
        raise ValueError(f"{options.train} is streamed, so its length is unknown: give --max-steps.")
    if not options.test:
        raise ValueError(f"{options.train} is streamed: give a test set too, such as its own test split.")
    if options.drop_contradicted or options.preprocess:
        raise ValueError("--drop-contradicted and --preprocess need a table, not a streamed dataset; leave them out.")
    tested = {row.digest for row in test}
    report = reports["train"] = Report(options.train, 0, [], [])
    seen = set()

    def count_tokens(sentence: str) -> int:
        return 1 + len(encode_labels(processor, sentence, options.language))

    def usable() -> Iterator[Row]:
        for row in stream_rows(options.train):
            row, problems = check_row(row, count_tokens)
            if row.digest in tested:
                problems.append(Problem(row.line, row.name, "also in the test", row.digest[:12]))
            if row.line not in seen:  # count each row in the first epoch only
                seen.add(row.line)
                report.rows += 1
                report.problems.extend(problems)
            if not any(problem.kind in DROPPED for problem in problems):
                yield row

    held = round(options.validation_share * min(MAX_STREAMED, options.max_steps * options.batch_size))
    validation = [row for row, _ in zip(usable(), range(held), strict=False)]

    def rest() -> Iterator[Row]:
        known = {row.line for row in validation}
        return (row for row in usable() if row.line not in known)

    return Splits([], validation, test, reports, other, long, rest)
