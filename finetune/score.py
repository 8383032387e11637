"""Score transcripts: word and character error rates, with bootstrap confidence intervals."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence

try:
    import jiwer
except ImportError as error:
    raise ImportError("jiwer isn't installed: pip install 'hfpipe[finetune]'") from error
import numpy as np

from .data import Row
from .normalize import normalizer, strip_accents

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles
MAX_GROUPS = 50  # values of a column that is reported by value


@dataclasses.dataclass(frozen=True)
class Counts:
    """The edits between a hypothesis and a reference of `length` words, or characters."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        """Return the number of edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Return the error rate in percent of the reference's length."""
        return 100 * self.errors / self.length if self.length else (100.0 if self.errors else 0.0)


def count_words(reference: str, hypothesis: str) -> Counts:
    """Count the word errors of one transcript; every word is an insertion if the reference is empty."""
    return _count(reference, hypothesis, jiwer.process_words)


def count_characters(reference: str, hypothesis: str) -> Counts:
    """Count the character errors of one transcript, spaces included."""
    return _count(reference, hypothesis, jiwer.process_characters)


def total(counts: list[Counts]) -> Counts:
    """Sum the counts of utterances, for the error rate of the whole rather than a mean of rates."""
    return Counts(*(sum(getattr(count, field.name) for count in counts) for field in dataclasses.fields(Counts)))


def confidence_interval(counts: list[Counts], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the error rate in percent, by a bootstrap over utterances (Bisani & Ney 2004)."""
    return tuple(np.percentile(_resampled_rates(counts, _resamples(len(counts), seed)), INTERVAL).tolist())


def standard_error(counts: list[Counts], seed: int = 0) -> float:
    """Return the standard error of the error rate in points, by the same bootstrap."""
    return float(_resampled_rates(counts, _resamples(len(counts), seed)).std())


def improvement(before: list[Counts], after: list[Counts], seed: int = 0) -> dict:
    """Compare two models on the same utterances: the reduction of the error rate, with its 95 % interval.

    The bootstrap is paired, since utterances that are hard for one model are hard for the other (Bisani & Ney 2004).

    Returns:
        `points`, `low` and `high`, in percentage points, and `verdict`: "better" or "worse" if the interval excludes
        0, else "no better".
    """
    resamples = _resamples(len(before), seed)
    differences = _resampled_rates(before, resamples) - _resampled_rates(after, resamples)
    low, high = np.percentile(differences, INTERVAL).tolist()
    verdict = "better" if low > 0 else "worse" if high < 0 else "no better"
    return {"points": total(before).rate - total(after).rate, "low": low, "high": high, "verdict": verdict}


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by a bootstrap over its values."""
    resampled = np.asarray(values, float)[_resamples(len(values), seed)].mean(1)
    return tuple(np.percentile(resampled, INTERVAL).tolist())


def gain_of_mean(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict:
    """Compare the means of a measure that is better when greater, on the same utterances, as `improvement` does."""
    gains = np.asarray(after, float) - np.asarray(before, float)
    low, high = mean_interval(gains, seed)
    verdict = "better" if low > 0 else "worse" if high < 0 else "no better"
    return {"points": float(gains.mean()), "low": low, "high": high, "verdict": verdict}


def score(rows: list[Row], transcripts: list[str], language: str | None, worst: int = 20) -> dict:
    """Score the transcripts of rows: error rates in percent, raw and normalized, by column, and the worst utterances.

    Returns:
        JSON-serializable Python. For Spanish also `wer_without_accents`, which takes "esta" for "está".
    """
    normalize = normalizer(language)
    pairs = [(row.sentence, text) for row, text in zip(rows, transcripts, strict=True)]
    words = normalized_counts(rows, transcripts, normalize)
    words_without_accents = normalized_counts(rows, transcripts, lambda text: strip_accents(normalize(text)))
    characters = [count_characters(normalize(reference), normalize(text)) for reference, text in pairs]
    order = sorted(range(len(rows)), key=lambda i: (-words[i].errors, -words[i].rate))
    return {
        "utterances": len(rows),
        "words": total(words).length,
        "wer": total(words).rate,
        "wer_interval": list(confidence_interval(words)),
        "cer": total(characters).rate,
        **({"wer_without_accents": total(words_without_accents).rate} if language == "es" else {}),
        "wer_raw": total([count_words(*pair) for pair in pairs]).rate,
        "cer_raw": total([count_characters(*pair) for pair in pairs]).rate,
        "substitutions": total(words).substitutions,
        "deletions": total(words).deletions,
        "insertions": total(words).insertions,
        "mean_of_utterances": float(np.mean([count.rate for count in words])),
        "by": _by_column(rows, words),
        "worst": [
            {
                "audio": rows[i].name,
                "sentence": rows[i].sentence,
                "heard": transcripts[i],
                "errors": words[i].errors,
                "wer": words[i].rate,
            }
            for i in order[:worst]
            if words[i].errors
        ],
    }


def normalized_counts(rows: list[Row], transcripts: list[str], normalize: Callable[[str], str]) -> list[Counts]:
    """Count the word errors of each row, after normalizing the reference and the transcript."""
    pairs = zip(rows, transcripts, strict=True)
    return [count_words(normalize(row.sentence), normalize(text)) for row, text in pairs]


def _count(reference: str, hypothesis: str, process: Callable) -> Counts:
    if not reference.strip():
        size = len(hypothesis.split()) if process is jiwer.process_words else len(hypothesis.strip())
        return Counts(0, 0, size, 0)
    found = process(reference, hypothesis)
    return Counts(
        found.substitutions, found.deletions, found.insertions, found.hits + found.substitutions + found.deletions
    )


def _resamples(size: int, seed: int) -> np.ndarray:
    """Return the indices (resamples, utterances) of a bootstrap, sampled with replacement."""
    return np.random.default_rng(seed).integers(0, size, (RESAMPLES, size))


def _resampled_rates(counts: list[Counts], resamples: np.ndarray) -> np.ndarray:
    """Return the error rate (resamples,) of each resample in percent."""
    errors, lengths = (np.array([getattr(count, name) for count in counts]) for name in ("errors", "length"))
    return 100 * errors[resamples].sum(1) / np.maximum(lengths[resamples].sum(1), 1)


def _by_column(rows: list[Row], counts: list[Counts]) -> dict:
    """Return the error rate for each value of the columns that group the rows, such as speaker or country."""
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
