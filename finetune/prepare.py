"""Prepare the data of a training: read, check and split it, and refuse leaks into the test set."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from .check import (
    DROPPED,
    Problem,
    Report,
    check_stream,
    count_shared,
    count_shared_rows,
    drop_contradicted,
    explain_shared,
    refuse_leaks,
)
from .collate import encode_labels
from .data import Row, content, is_table, split, stream_rows
from .evaluate import check_whisper_rows, explain_no_rows, read_source, transcribe_rows
from .normalize import normalizer
from .options import Options

MAX_STREAMED = 1000  # rows of a streamed dataset to test or validate on, which are kept in memory
WITHOUT_VALIDATION = "--validation-share 0, which keeps the last checkpoint"


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
    streamed_texts: set[str] = dataclasses.field(default_factory=set)  # of the rows streamed so far
    streamed_speakers: set[str] = dataclasses.field(default_factory=set)

    def shared(self) -> dict[str, dict]:
        """Return what the test and the validation share with the training set, as `count_shared` does."""
        held = {name: rows for name, rows in (("test", self.test), ("validation", self.validation)) if rows}
        if self.stream:
            return {
                name: count_shared(self.streamed_texts, self.streamed_speakers, rows) for name, rows in held.items()
            }
        return {name: count_shared_rows(self.train, rows) for name, rows in held.items()}


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
        for note, count in report.notes.items():
            say(f"{name}: {note} ({count} rows)")
        return report

    test = read("test", options.test, options.language).kept if options.test else []
    other = long = []
    if options.other:
        source, _, language = options.other.rpartition(":")
        other = read("other language", source, language).kept
    if options.long:
        long = read("long audio", options.long, options.language, max_seconds=math.inf).kept
    if not is_table(options.train):
        return _streamed(options, processor, test, other, long, reports, say)
    report = read("train", options.train, options.language)
    if options.drop_contradicted:
        say("Transcribing the training rows with the base model")
        transcripts = transcribe_rows(whisper, processor, report.kept, options.language, batch_size=options.batch_size)
        report = reports["train"] = drop_contradicted(report, transcripts, normalizer(options.language))
    rows = report.kept
    if options.test:
        refuse_leaks(report, reports["test"])
        reports["test"].shared = count_shared_rows(rows, test)
    else:
        rows, test = split(rows, options.test_share, options.seed)
    validation = []
    if options.validation_share:
        rows, validation = split(rows, options.validation_share, options.seed, WITHOUT_VALIDATION)
    say(f"Training on {len(rows)} rows, validating on {len(validation)}, testing on {len(test)}")
    splits = Splits(rows, validation, test, reports, other, long)
    for name, shared in splits.shared().items():
        say(f"{name}: {explain_shared(shared)}")
    return splits


def _streamed(options: Options, processor, test, other, long, reports, say) -> Splits:
    """Hold out the first rows of a stream for validation, and check the others as they arrive."""
    if options.max_steps is None:
        raise ValueError(f"{options.train} is streamed, so its length is unknown: give --max-steps.")
    if not options.test:
        raise ValueError(f"{options.train} is streamed: give a test set too, such as its own test split.")
    if options.drop_contradicted or options.preprocess:
        raise ValueError("--drop-contradicted and --preprocess need a table, not a streamed dataset; leave them out.")
    tested = {row.digest for row in test}
    splits = Splits([], [], test, {}, other, long)
    report = reports["train"] = Report(options.train, 0, [], [])
    seen = set()

    def count_tokens(sentence: str) -> int:
        return 1 + len(encode_labels(processor, sentence, options.language))

    def usable() -> Iterator[Row]:
        for row, problems in check_stream(stream_rows(options.train), count_tokens):
            if row.digest in tested:
                problems.append(Problem(row.line, row.name, "also in the test", row.digest[:12]))
            if row.line not in seen:  # count each row in the first epoch only
                seen.add(row.line)
                report.rows += 1
                report.problems.extend(problems)
                for note in row.notes:
                    if note not in report.notes:
                        say(f"train: {note}")
                    report.notes[note] += 1
            if not any(problem.kind in DROPPED for problem in problems):
                yield row

    rows_to_see = options.max_steps * options.batch_size * options.accumulate
    held = math.ceil(options.validation_share * min(MAX_STREAMED, rows_to_see))
    splits.validation = [row for _, row in zip(range(held), usable(), strict=False)]
    known = {row.line for row in splits.validation}

    def rest() -> Iterator[Row]:
        for row in usable():
            if row.line not in known:
                splits.streamed_texts.add(content(row.sentence))
                splits.streamed_speakers.update(filter(None, [row.speaker]))
                yield row

    splits.reports, splits.stream = reports, rest
    return splits
