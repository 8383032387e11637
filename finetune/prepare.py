"""Make the sets of a training from what was given: read, check, split, and refuse a test that leaks."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from .check import DROPPED, Problem, Report, check_row, drop_contradicted, refuse_leaks
from .collate import label
from .data import Row, is_table, split, stream_rows
from .evaluate import check_whisper_rows, hear_rows, nothing_left, rows_of
from .normalise import normaliser
from .options import Options

MAX_STREAMED = 1000  # rows of a streamed dataset that are tested or validated on, as they are kept in memory


@dataclasses.dataclass
class Sets:
    """The checked rows of a training; where they are streamed, `train` is empty and `stream` opens them."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    reports: dict[str, Report]
    other: list[Row] = dataclasses.field(default_factory=list)
    long: list[Row] = dataclasses.field(default_factory=list)
    stream: Callable[[], Iterator[Row]] | None = None


def prepare(options: Options, whisper, processor, say: Callable[[str], None]) -> Sets:
    """Reads and checks all the rows that the options name, and splits them.

    Raises:
        OSError, ValueError: a table that can't be read, no row that can be used, or a test set that leaks.
    """
    say("Checking the data")
    reports = {}

    def checked(name: str, source: str, language: str, rows: list[Row] | None = None, **limits) -> Report:
        rows = rows_of(source, None if is_table(source) else MAX_STREAMED) if rows is None else rows
        report = check_whisper_rows(rows, source, processor, language, **limits)
        reports[name] = report
        if not report.kept:
            raise ValueError(nothing_left(report))
        say(f"{name}: {len(report.kept)} of {report.rows} rows can be used ({report.as_dict()['hours']:.2f} h)")
        return report

    test = checked("test", options.test, options.language).kept if options.test else []
    other = long = []
    if options.other:
        source, _, language = options.other.rpartition(":")
        other = checked("other language", source, language).kept
    if options.long:
        long = checked("long audio", options.long, options.language, longest=math.inf).kept
    if not is_table(options.train):
        return _streamed(options, processor, test, other, long, reports)
    report = checked("train", options.train, options.language)
    if options.drop_contradicted:
        say("Hearing what the base model makes of the training rows")
        heard = hear_rows(whisper, processor, report.kept, options.language, batch_size=options.batch_size)
        report = reports["train"] = drop_contradicted(report, heard, normaliser(options.language))
    rows = report.kept
    if options.test:
        refuse_leaks(report, reports["test"])
    else:
        rows, test = split(rows, options.test_share, options.seed)
    validation = []
    if options.validation_share:
        rows, validation = split(rows, options.validation_share, options.seed)
    say(f"Training on {len(rows)} rows, validating on {len(validation)}, testing on {len(test)}")
    return Sets(rows, validation, test, reports, other, long)


def _streamed(options: Options, processor, test, other, long, reports) -> Sets:
    """Sets the first rows of a stream aside for validation, and checks the others as they come."""
    if options.max_steps is None:
        raise ValueError(f"{options.train} is streamed, so nobody knows how long it is: give --max-steps.")
    if not options.test:
        raise ValueError(f"{options.train} is streamed: give a test set too, such as its own test split.")
    if options.drop_contradicted or options.preprocess:
        raise ValueError("a streamed dataset has no --drop-contradicted and no --preprocess; leave them out.")
    tested = {row.digest for row in test}
    report = reports["train"] = Report(options.train, 0, [], [])
    seen = set()

    def count(sentence: str) -> int:
        return 1 + len(label(processor, sentence, options.language))

    def usable() -> Iterator[Row]:
        for row in stream_rows(options.train):
            row, problems = check_row(row, count)
            if row.digest in tested:
                problems.append(Problem(row.line, row.name, "also in the test", row.digest[:12]))
            if row.line not in seen:  # the second time round tells nothing new
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

    return Sets([], validation, test, reports, other, long, rest)
