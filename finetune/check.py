"""Look at every row before training: what can't be used is dropped, counted and named."""

import dataclasses
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio, resample

from .data import Row, content

WINDOW = 30.0  # seconds that Whisper hears at once
SHORTEST = 0.1  # seconds
SILENCE = -60.0  # dBFS of the loudest 20 ms: below it, a 16-bit recording is its own noise
CLIPPED_SHARE = 1e-3  # of the samples at full scale
MAX_TOKENS = 448  # Whisper's positions for text, its prefix included (config.max_target_positions)
FASTEST = 30.0  # letters a second; Spanish has about 15
CONTRADICTED = 0.8  # word error rate of the base model's transcript over which a row is suspect

DROPPED = {  # kind: what it means for the reader of the report
    "no audio given": "the cell of the audio is empty",
    "no text": "the cell of the sentence is empty",
    "no words": "the sentence has no letter and no digit",
    "wrong cells": "the row has more or fewer cells than the table: quote sentences that hold the delimiter",
    "missing file": "there is no such file",
    "not a file": "the path is a folder",
    "empty file": "the file has 0 bytes",
    "unreadable": "the file isn't audio that can be decoded, or is damaged or truncated",
    "too short": f"under {SHORTEST} s",
    "too long": f"over {WINDOW:.0f} s, which Whisper would cut off while the text goes on: split it",
    "silence": f"nothing louder than {SILENCE:.0f} dBFS",
    "text too long": f"more than {MAX_TOKENS} tokens with Whisper's prefix: split it",
    "faster than speech": f"over {FASTEST:.0f} letters a second: the audio is cut, or the text is another's",
    "broken characters": "a text that was decoded wrongly (Ã±, �) or has control characters: save it as UTF-8",
    "Whisper's own marks": "a text with <|…|>, which would become a command to Whisper",
    "duplicate": "the same audio with the same text as an earlier row",
    "two texts": "the same audio with different texts: which is right can't be told, so all its rows are dropped",
    "also in the test": "the test set has the same audio, sample for sample",
    "contradicted": f"the base model hears something else: its word error rate is over {CONTRADICTED:.0%}",
}
NOTED = {
    "clipped": f"over {CLIPPED_SHARE:.1%} of the samples at full scale",
    "annotation": "brackets or tags in the text, which Whisper will learn to write",
    "odd characters": "letters of a script that most rows don't use, or emoji",
    "low rate": "sampled under 16 kHz, a telephone's sound",
}
BROKEN = re.compile("[\ufffd\x00-\x08\x0b-\x1f\x7f-\x9f]|Ã[\x80-\xbf©±³¡­º¼]|Â[¿¡ºª]|â€")


class Problem(NamedTuple):
    """One thing found in one row; `kind` is a key of `DROPPED` or of `NOTED`."""

    line: int
    audio: str
    kind: str
    detail: str


@dataclasses.dataclass
class Report:
    """What a set of rows holds, and what was wrong with it."""

    source: str
    rows: int
    kept: list[Row]
    problems: list[Problem]

    @property
    def dropped(self) -> Counter:
        """Counts the dropped rows by kind."""
        return Counter(problem.kind for problem in self.problems if problem.kind in DROPPED)

    @property
    def noted(self) -> Counter:
        """Counts, by kind, what was noted of rows that stay."""
        return Counter(problem.kind for problem in self.problems if problem.kind in NOTED)

    def as_dict(self) -> dict:
        """Gives the report as plain Python, ready for JSON; durations in seconds."""
        seconds = np.array([row.seconds for row in self.kept] or [0.0])
        speakers = defaultdict(float)
        for row in self.kept:
            speakers[row.speaker or "unknown"] += row.seconds / 3600
        return {
            "source": self.source,
            "rows": self.rows,
            "kept": len(self.kept),
            "dropped": dict(self.dropped),
            "noted": dict(self.noted),
            "hours": round(float(seconds.sum()) / 3600, 4),
            "seconds": {
                name: round(float(np.percentile(seconds, share)), 2)
                for name, share in (("shortest", 0), ("median", 50), ("95 %", 95), ("longest", 100))
            },
            "hours_per_speaker": {name: round(hours, 4) for name, hours in sorted(speakers.items())},
            "problems": [problem._asdict() for problem in self.problems],
        }

    def markdown(self) -> str:
        """Writes the report for a reader: counts, hours, and each problem with its row."""
        facts = self.as_dict()
        lines = [
            f"# {Path(self.source).name}: {facts['kept']} of {facts['rows']} rows can be used",
            "",
            f"{facts['hours']:.2f} h; seconds a row: " + ", ".join(f"{k} {v}" for k, v in facts["seconds"].items()),
        ]
        for title, counts, meanings in (
            ("Dropped", self.dropped, DROPPED),
            ("Noted, and kept", self.noted, NOTED),
        ):
            if counts:
                lines += ["", f"## {title}", "", "| what | rows | |", "|---|---:|---|"]
                lines += [f"| {kind} | {count} | {meanings[kind]} |" for kind, count in counts.most_common()]
        lines += ["", "## Hours per speaker", "", "| speaker | hours |", "|---|---:|"]
        lines += [f"| {_cell(name)} | {hours:.2f} |" for name, hours in facts["hours_per_speaker"].items()]
        if self.problems:
            lines += ["", "## Row by row", "", "| line | audio | what | detail |", "|---:|---|---|---|"]
            lines += [f"| {p.line} | {_cell(p.audio)} | {p.kind} | {_cell(p.detail)} |" for p in self.problems]
        return "\n".join(lines) + "\n"


def check_rows(
    rows: list[Row],
    source: str,
    count_tokens: Callable[[str], int],
    on_row: Callable[[], None] = lambda: None,
    longest: float = WINDOW,
) -> Report:
    """Reads every row's audio and text, and parts those that can be used from those that can't.

    The rows that are kept carry the length of their audio and a digest of its samples.

    Args:
        rows: what `read_rows` gave.
        source: the set's name in the report.
        count_tokens: the tokens of a sentence as Whisper's decoder would get it, prefix included.
        on_row: is called after each row, for a progress bar.
        longest: seconds; longer audio is dropped. `inf` for a test of long audio.
    """

    def look(row: Row) -> tuple[Row, list[Problem]]:
        row, problems = check_row(row, count_tokens, longest)
        on_row()
        return row, problems

    with ThreadPoolExecutor(4) as threads:  # libsndfile and soxr let other threads run meanwhile
        looked = list(threads.map(look, rows))
    problems = [problem for _, found in looked for problem in found]
    usable = [row for row, found in looked if not any(problem.kind in DROPPED for problem in found)]
    kept, repeated = _drop_repeated(usable)
    return Report(source, len(rows), kept, sorted(problems + repeated))


def check_row(row: Row, count_tokens: Callable[[str], int], longest: float = WINDOW) -> tuple[Row, list[Problem]]:
    """Looks at one row; gives it with its length and digest, and all that is wrong with it."""
    problems = []

    def found(kind: str, detail: str = "") -> None:
        problems.append(Problem(row.line, row.name, kind, detail))

    _check_text(row, count_tokens, found)
    samples = _read_audio(row, found)
    if samples is None:
        return row, problems
    seconds = len(samples) / SAMPLING_RATE
    if seconds < SHORTEST:
        found("too short", f"{seconds:.3f} s")
    elif seconds > longest:
        found("too long", f"{seconds:.1f} s")
    else:
        level = _peak_level(samples)
        letters = len(re.sub(r"\W", "", row.sentence))
        if level < SILENCE:
            found("silence", f"{level:.0f} dBFS")
        elif letters / seconds > FASTEST and letters > FASTEST / 2:
            found("faster than speech", f"{letters} letters in {seconds:.1f} s")
        if float((np.abs(samples) > 0.999).mean()) > CLIPPED_SHARE:
            found("clipped", f"{(np.abs(samples) > 0.999).mean():.1%}")
    digest = hashlib.sha256(np.round(samples * 32767).astype("<i2").tobytes()).hexdigest()
    return dataclasses.replace(row, seconds=seconds, digest=digest), problems


def find_leaks(train: Iterable[Row], test: Iterable[Row]) -> list[tuple[Row, Row]]:
    """Pairs the rows of train and test whose audio is the same, sample for sample, wherever the files lie."""
    known = {row.digest: row for row in train if row.digest}
    return [(known[row.digest], row) for row in test if row.digest in known]


def refuse_leaks(train: Report, test: Report) -> None:
    """Refuses a test set with audio of the training set in it, as its word error rate would be a lie.

    Raises:
        ValueError: names the rows, and says what to do.
    """
    leaks = find_leaks(train.kept, test.kept)
    if leaks:
        pairs = "; ".join(f"{a.name} (line {a.line}) is {b.name} (line {b.line})" for a, b in leaks[:5])
        raise ValueError(
            f"{len(leaks)} of {len(test.kept)} test recordings are also in the training set: {pairs}"
            f"{' …' if len(leaks) > 5 else ''}. Take them out of one of the two, or give only the training set and "
            "let --test-share split it."
        )


def drop_contradicted(report: Report, transcripts: list[str], normalise: Callable[[str], str]) -> Report:
    """Drops the kept rows that the base model's transcript contradicts, as distil-whisper filters its labels.

    Args:
        transcripts: what the model heard in each kept row, in their order.
    """
    import jiwer

    kept, problems = [], []
    for row, heard in zip(report.kept, transcripts, strict=True):
        reference = normalise(row.sentence)
        rate = jiwer.wer(reference, normalise(heard)) if reference else 1.0
        if rate > CONTRADICTED:
            problems.append(Problem(row.line, row.name, "contradicted", f"{row.sentence!r} was heard as {heard!r}"))
        else:
            kept.append(row)
    return Report(report.source, report.rows, kept, sorted(report.problems + problems))


def _check_text(row: Row, count_tokens: Callable[[str], int], found: Callable[..., None]) -> None:
    if row.cells:
        found("wrong cells", f"{abs(row.cells)} too {'many' if row.cells > 0 else 'few'}")
    text = row.sentence
    if not text:
        if not row.cells < 0:
            found("no text")
        return
    if BROKEN.search(text):
        found("broken characters", repr(text[:60]))
    if "<|" in text:
        found("Whisper's own marks", text[:60])
    if not any(character.isalnum() for character in text):
        found("no words", text[:60])
    elif (tokens := count_tokens(text)) > MAX_TOKENS:
        found("text too long", f"{tokens} tokens")
    if re.search(r"\[.+?\]|<[^|].*?>|\{.+?\}", text):
        found("annotation", text[:60])
    odd = sorted({character for character in text if _is_odd(character)})
    if odd:
        found("odd characters", " ".join(f"{character} (U+{ord(character):04X})" for character in odd[:8]))


def _read_audio(row: Row, found: Callable[..., None]) -> np.ndarray | None:
    if not row.audio:
        found("no audio given")
        return None
    if isinstance(row.audio, str) and not row.audio.startswith(("http://", "https://")):
        path = Path(row.audio)
        if path.is_dir():
            return found("not a file", row.audio)
        if not path.exists():
            return found("missing file", row.audio)
        if path.stat().st_size == 0:
            return found("empty file")
    try:
        samples, rate = load_audio(row.audio)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        return found("unreadable", str(error))
    if rate < SAMPLING_RATE:
        found("low rate", f"{rate} Hz")
    return resample(samples, rate, SAMPLING_RATE)


def _drop_repeated(rows: list[Row]) -> tuple[list[Row], list[Problem]]:
    """Keeps the first of the rows that have the same audio and text, and none of those whose texts differ."""
    same = defaultdict(list)
    for row in rows:
        same[row.digest].append(row)
    kept, problems = [], []
    for row in rows:
        first, *others = same[row.digest]
        if len({content(other.sentence) for other in (first, *others)}) > 1:
            lines = ", ".join(str(other.line) for other in same[row.digest])
            problems.append(Problem(row.line, row.name, "two texts", f"lines {lines}"))
        elif row is not first:
            problems.append(Problem(row.line, row.name, "duplicate", f"of line {first.line}"))
        else:
            kept.append(row)
    return kept, problems


def _peak_level(samples: np.ndarray) -> float:
    """Measures the loudest 20 ms in dBFS."""
    block = SAMPLING_RATE // 50
    padded = np.pad(samples, (0, -len(samples) % block)).reshape(-1, block)
    return float(10 * np.log10(max(np.mean(padded.astype(np.float64) ** 2, axis=1).max(), 1e-20)))


def _is_odd(character: str) -> bool:
    """Tells a letter that isn't Latin, or a pictograph."""
    kind = unicodedata.category(character)
    if kind in ("So", "Cf", "Co", "Cn"):
        return character not in "°®©"
    return kind[0] == "L" and character not in "ºª" and not unicodedata.name(character, "").startswith("LATIN")


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
