"""Summarize what was measured of a voice: means with intervals, by speaker and country, goals, and a comparison."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from ..score import Counts, confidence_interval, gain_of_mean, improvement, mean_interval, total
from .measures import FAILURES, Measures

GOALS = {  # of chatterbox-es-latam: the measure, whether it is to be below or above, and what
    "wer": ("below", 15.0),
    "similarity": ("above", 0.85),
    "mos": ("above", 3.5),
    "rtf": ("below", 1.0),
}
MEANS = ("similarity", "similarity_to_others", "mos", "background", "pitch", "intonation", "rate", "seconds")


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A text as a voice said it, and what was measured of it.

    Attributes:
        similarity: cosine of resemblyzer's embeddings of it and of the speaker's reference, without itself; None of
            the only recording of a speaker.
        similarity_to_others: mean of those with the references of the other speakers; None without others.
        rtf: real-time factor, seconds of computation per second of audio; None of recordings.
        first_audio: seconds until the first chunk of sound, or until all of it from a model without chunks.
    """

    text: str
    speaker: str | None
    country: str | None
    measures: Measures
    similarity: float | None
    similarity_to_others: float | None
    rtf: float | None
    first_audio: float | None

    def value(self, name: str) -> float | None:
        """Return a measure by its name, None where it couldn't be measured."""
        found = getattr(self, name) if hasattr(self, name) else getattr(self.measures, name)
        return None if found is None or math.isnan(found) else found

    def as_dict(self) -> dict:
        """Return JSON-serializable Python, flat, with the word error rate in percent."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "measures"}
        measured = dataclasses.asdict(self.measures) | {"wer": self.measures.words.rate}
        found = own | measured | {"failures": list(self.measures.failures)}
        return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in found.items()}


def usual_rates(recordings: Sequence[Utterance]) -> dict[str | None, float]:
    """Return the letters a second that each speaker says in their own recordings."""
    rates = defaultdict(list)
    for each in recordings:
        if (rate := each.value("rate")) is not None:
            rates[each.speaker].append(rate)
    return {speaker: float(np.median(found)) for speaker, found in rates.items()}


def summarize(utterances: Sequence[Utterance]) -> dict:
    """Summarize the utterances of one voice.

    Returns:
        JSON-serializable Python: "utterances"; "wer" and "cer" in percent, of all words and characters together; the
        means of `MEANS`; "rtf", of all seconds together, and "first_audio", the median in seconds; each as
        `{"value", "low", "high"}` with its 95 % interval by a bootstrap over utterances, or None where nothing was
        measured. "failures" counts utterances by the names in `FAILURES`, and "failed" those with any. "by" has the
        same for each "speaker" and "country", if there are several.
    """
    found = _summarize_group(utterances)
    found["by"] = {}
    for column in ("speaker", "country"):
        groups = defaultdict(list)
        for each in utterances:
            groups[getattr(each, column) or "(none)"].append(each)
        if len(groups) > 1:
            found["by"][column] = {name: _summarize_group(group) for name, group in sorted(groups.items())}
    return found


def judge_goals(utterances: Sequence[Utterance]) -> dict:
    """Judge the goals of `GOALS`.

    Returns:
        By measure: "goal", such as "< 15"; "value"; and "reached": "yes" if the whole 95 % interval reaches it,
        "not certain" if only the value does, "no", or "not measured".
    """
    summary, goals = _summarize_group(utterances), {}
    for name, (side, bound) in GOALS.items():
        found, sign = summary[name], 1 if side == "below" else -1
        if found is None:
            reached = "not measured"
        else:
            worst = found["high"] if side == "below" else found["low"]
            reached = "not certain" if sign * found["value"] < sign * bound else "no"
            if sign * worst < sign * bound:
                reached = "yes"
        value = found and found["value"]
        goals[name] = {"goal": f"{'<' if side == 'below' else '>'} {bound:g}", "value": value, "reached": reached}
    return goals


def compare(before: Sequence[Utterance], after: Sequence[Utterance]) -> dict:
    """Compare two voices on the same texts by a paired bootstrap; a gain is positive where `after` is better.

    Returns:
        For "wer", "similarity", "mos" and "failed" (in percent of the utterances) what `improvement` returns.
    """
    gains = {"wer": improvement([each.measures.words for each in before], [each.measures.words for each in after])}
    for name in ("similarity", "mos"):
        gains[name] = gain_of_mean(
            [each.value(name) or 0.0 for each in before], [each.value(name) or 0.0 for each in after]
        )
    gains["failed"] = gain_of_mean([_whole(each) for each in before], [_whole(each) for each in after])
    return gains


def _summarize_group(utterances: Sequence[Utterance]) -> dict:
    found: dict = {"utterances": len(utterances)}
    for name, counts in (
        ("wer", [each.measures.words for each in utterances]),
        ("cer", [each.measures.characters for each in utterances]),
    ):
        low, high = confidence_interval(counts)
        found[name] = {"value": total(counts).rate, "low": low, "high": high}
    for name in MEANS:
        found[name] = _mean([each.value(name) for each in utterances])
    found["rtf"], found["first_audio"] = _rtf(utterances), _median([each.first_audio for each in utterances])
    failures = Counter(name for each in utterances for name in each.measures.failures)
    found["failures"] = {name: failures[name] for name in FAILURES}
    found["failed"] = sum(bool(each.measures.failures) for each in utterances)
    return found


def _whole(utterance: Utterance) -> float:
    """Return 100 where nothing failed, else 0, so that a mean is in percent."""
    return 0.0 if utterance.measures.failures else 100.0


def _mean(values: Sequence[float | None]) -> dict | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = mean_interval(known)
    return {"value": float(np.mean(known)), "low": low, "high": high}


def _median(values: Sequence[float | None]) -> dict | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"value": float(np.median(known)), "low": min(known), "high": max(known)}


def _rtf(utterances: Sequence[Utterance]) -> dict | None:
    """Return the real-time factor of all utterances together: a ratio of sums, as an error rate is."""
    timed = [(each.rtf * each.measures.seconds, each.measures.seconds) for each in utterances if each.rtf is not None]
    if not timed:
        return None
    # In milliseconds, so that the bootstrap of error rates serves for this ratio as well; it is in percent.
    counts = [Counts(0, 0, round(1000 * computing), round(1000 * seconds)) for computing, seconds in timed]
    low, high = confidence_interval(counts)
    return {"value": total(counts).rate / 100, "low": low / 100, "high": high / 100}
