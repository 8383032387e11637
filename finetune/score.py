"""Count the errors of transcripts: words and letters substituted, deleted and inserted, with an interval."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import jiwer
import numpy as np

from .data import Row
from .normalise import normaliser, strip_accents

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles
MAX_GROUPS = 50  # values of a column that still make a table


@dataclasses.dataclass(frozen=True)
class Counts:
    """Errors against a reference of `length` words, or letters."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        """Counts all errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Gives the errors in percent of the reference's length."""
        return 100 * self.errors / self.length if self.length else (100.0 if self.errors else 0.0)


def count_words(reference: str, heard: str) -> Counts:
    """Counts the word errors of one transcript; an empty reference makes every word an insertion."""
    return _count(reference, heard, jiwer.process_words)


def count_letters(reference: str, heard: str) -> Counts:
    """Counts the errors of one transcript letter by letter, spaces included."""
    return _count(reference, heard, jiwer.process_characters)


def total(counts: list[Counts]) -> Counts:
    """Adds counts up, so that their rate is that of the whole and not a mean of rates."""
    return Counts(*(sum(getattr(count, field.name) for count in counts) for field in dataclasses.fields(Counts)))


def interval(counts: list[Counts], seed: int = 0) -> tuple[float, float]:
    """Gives the 95 % interval of the rate in percent, by 1000 resamplings of the utterances (Bisani & Ney 2004)."""
    return tuple(np.percentile(_resampled(counts, _draws(len(counts), seed)), INTERVAL).tolist())


def standard_error(counts: list[Counts], seed: int = 0) -> float:
    """Gives the standard error of the rate in points, by the same resamplings."""
    return float(_resampled(counts, _draws(len(counts), seed)).std())


def improvement(before: list[Counts], after: list[Counts], seed: int = 0) -> dict:
    """Compares two transcripts of the same utterances: points of the rate gained, and their 95 % interval.

    Both are resampled together, as hard utterances are hard for both (Bisani & Ney 2004).

    Returns:
        `points`, `low`, `high`, and `verdict`: "better", "worse" or "no better", which needs the interval to leave 0
        out.
    """
    draws = _draws(len(before), seed)
    low, high = np.percentile(_resampled(before, draws) - _resampled(after, draws), INTERVAL).tolist()
    verdict = "better" if low > 0 else "worse" if high < 0 else "no better"
    return {"points": total(before).rate - total(after).rate, "low": low, "high": high, "verdict": verdict}


def score(rows: list[Row], heard: list[str], language: str | None, worst: int = 20) -> dict:
    """Judges the transcripts of rows: rates in percent, raw and normalised, by column, and the worst utterances.

    Returns:
        Plain Python, ready for JSON. For Spanish also `wer_without_accents`, which forgives "esta" for "está".
    """
    normalise = normaliser(language)
    words = [count_words(row.sentence, text) for row, text in zip(rows, heard, strict=True)]
    normal = normalised_counts(rows, heard, normalise)
    letters = [count_letters(normalise(row.sentence), normalise(text)) for row, text in zip(rows, heard, strict=True)]
    raw_letters = [count_letters(row.sentence, text) for row, text in zip(rows, heard, strict=True)]
    order = sorted(range(len(rows)), key=lambda i: (-normal[i].errors, -normal[i].rate))
    low, high = interval(normal)
    bare = normalised_counts(rows, heard, lambda text: strip_accents(normalise(text)))
    return {
        "utterances": len(rows),
        "words": total(normal).length,
        "wer": total(normal).rate,
        "wer_interval": [low, high],
        "cer": total(letters).rate,
        **({"wer_without_accents": total(bare).rate} if language == "es" else {}),
        "wer_raw": total(words).rate,
        "cer_raw": total(raw_letters).rate,
        "substitutions": total(normal).substitutions,
        "deletions": total(normal).deletions,
        "insertions": total(normal).insertions,
        "mean_of_utterances": float(np.mean([count.rate for count in normal])),
        "by": _by_column(rows, normal),
        "worst": [
            {
                "audio": rows[i].name,
                "sentence": rows[i].sentence,
                "heard": heard[i],
                "errors": normal[i].errors,
                "wer": normal[i].rate,
            }
            for i in order[:worst]
            if normal[i].errors
        ],
    }


def normalised_counts(rows: list[Row], heard: list[str], normalise: Callable[[str], str]) -> list[Counts]:
    """Counts each row's word errors once both texts are normalised."""
    return [count_words(normalise(row.sentence), normalise(text)) for row, text in zip(rows, heard, strict=True)]


def _count(reference: str, heard: str, process: Callable) -> Counts:
    if not reference.strip():
        size = len(heard.split()) if process is jiwer.process_words else len(heard.strip())
        return Counts(0, 0, size, 0)
    found = process(reference, heard)
    return Counts(
        found.substitutions, found.deletions, found.insertions, found.hits + found.substitutions + found.deletions
    )


def _draws(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, (RESAMPLES, size))


def _resampled(counts: list[Counts], draws: np.ndarray) -> np.ndarray:
    errors, lengths = (np.array([getattr(count, name) for count in counts]) for name in ("errors", "length"))
    return 100 * errors[draws].sum(1) / np.maximum(lengths[draws].sum(1), 1)


def _by_column(rows: list[Row], counts: list[Counts]) -> dict:
    """Gives the rate of each value of each column that groups the rows: speaker, country, gender …"""
    tables = {}
    for column in dict.fromkeys(name for row in rows for name in row.extra):
        groups = defaultdict(list)
        for row, count in zip(rows, counts, strict=True):
            groups[row.extra.get(column, "")].append(count)
        if 1 < len(groups) <= min(MAX_GROUPS, len(rows) / 2):
            tables[column] = {
                name or "(none)": {"wer": total(group).rate, "utterances": len(group), "words": total(group).length}
                for name, group in sorted(groups.items())
            }
    return tables
