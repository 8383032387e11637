"""Check every row before training: drop, count and report the unusable ones."""

import dataclasses
import hashlib
import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

try:
    import jiwer
except ImportError as error:
    raise ImportError("jiwer isn't installed: pip install 'hfpipe[finetune]'") from error
import numpy as np

from hfpipe.pipeline.asr_whisper import FULL_WINDOW
from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio, resample

from .data import Row, content
from .markdown import markdown_table

MIN_SECONDS = 0.1
SILENCE = -60.0  # dBFS of the loudest 20 ms; below it, a 16-bit recording is mostly its own noise
CLIPPED_SHARE = 1e-3  # of the samples at full scale
MAX_TOKENS = 448  # Whisper's decoder positions, prefix included (config.max_target_positions)
MAX_LETTERS_PER_SECOND = 30.0  # Spanish has about 15
MAX_WER = 0.8  # word error rate of the base model's transcript above which a row is suspect

DROPPED = {  # kind of problem: explanation for the report
    "no audio given": "the audio cell is empty",
    "no text": "the sentence cell is empty, or says nan, None …, as pandas writes a missing value",
    "no words": "the sentence has no letters or digits",
    "wrong cells": "the row has more or fewer cells than the table: quote sentences that contain the delimiter",
    "missing file": "the file doesn't exist",
    "not a file": "the path is a folder",
    "empty file": "the file has 0 bytes",
    "unreadable": "the file isn't decodable audio, or is damaged or truncated",
    "too short": f"under {MIN_SECONDS} s",
    "too long": f"over {FULL_WINDOW} s, where Whisper cuts the audio but not the text: split it",
    "silence": f"nothing louder than {SILENCE:.0f} dBFS",
    "text too long": f"more than {MAX_TOKENS} tokens with Whisper's prefix: split it",
    "faster than speech": f"over {MAX_LETTERS_PER_SECOND:.0f} letters per second: the audio is cut, or the text wrong",
    "broken characters": "wrongly decoded text (Ã±, �) or control characters: save the table as UTF-8",
    "Whisper's own marks": "text with <|…|>, which Whisper would take for special tokens",
    "duplicate": "the same audio and text as an earlier row",
    "two texts": "the same audio with different texts: all its rows are dropped, as any of them may be wrong",
    "also in the test": "the test set has the same audio, sample for sample",
    "contradicted": f"the base model's transcript differs: its word error rate is over {MAX_WER:.0%}",
}
NOTED = {
    "clipped": f"over {CLIPPED_SHARE:.1%} of the samples at full scale",
    "annotation": "brackets or tags in the text, which Whisper will learn to write",
    "odd characters": "letters that aren't Latin, or emoji",
    "unpaired quote": "a quote without its pair hid the lines after it, which were read one by one",
    "decomposed letters": "letters and accents apart (NFD), as macOS writes them: composed (NFC) for the training",
    "low rate": f"sampled below {SAMPLING_RATE // 1000} kHz, as on the telephone",
}
BROKEN = re.compile("[\ufffd\x00-\x08\x0b-\x1f\x7f-\x9f]|Ã[\x80-\xbf©±³¡­º¼]|Â[¿¡ºª]|â€")


class Problem(NamedTuple):
    """A problem in one row; `kind` is a key of `DROPPED` or of `NOTED`."""

    line: int
    audio: str
    kind: str
    detail: str


@dataclasses.dataclass
class Report:
    """The usable rows of a table or dataset, and the problems of all its rows."""

    DROPPED: ClassVar = DROPPED
    NOTED: ClassVar = NOTED

    source: str
    rows: int
    kept: list[Row]
    problems: list[Problem]
    notes: Counter = dataclasses.field(default_factory=Counter)  # how it was read: rows by note
    shared: dict = dataclasses.field(default_factory=dict)  # what a test set shares with the training set

    @property
    def dropped(self) -> Counter:
        """Return the number of dropped rows by kind of problem."""
        return Counter(problem.kind for problem in self.problems if problem.kind in self.DROPPED)

    @property
    def noted(self) -> Counter:
        """Return the number of problems, by kind, that don't drop a row."""
        return Counter(problem.kind for problem in self.problems if problem.kind in self.NOTED)

    def as_dict(self) -> dict:
        """Return the report as JSON-serializable Python; durations are in hours or seconds, as named."""
        seconds = np.array([row.seconds for row in self.kept] or [0.0])
        speakers = defaultdict(float)
        for row in self.kept:
            speakers[row.speaker or "unknown"] += row.seconds / 3600
        return {
            "source": os.path.basename(self.source) if os.path.isabs(self.source) else self.source,
            "rows": self.rows,
            "kept": len(self.kept),
            "dropped": dict(self.dropped),
            "noted": dict(self.noted),
            "notes": dict(self.notes),
            "shared": self.shared,
            "hours": round(float(seconds.sum()) / 3600, 4),
            "seconds": {
                name: round(float(np.percentile(seconds, share)), 2)
                for name, share in (("shortest", 0), ("median", 50), ("95 %", 95), ("longest", 100))
            },
            "hours_per_speaker": {name: round(hours, 4) for name, hours in sorted(speakers.items())},
            "problems": [problem._asdict() for problem in self.problems],
        }

    def markdown(self) -> str:
        """Return the report as Markdown: counts, hours, and every problem with its row."""
        facts = self.as_dict()
        lines = [
            f"# {Path(self.source).name}: {facts['kept']} of {facts['rows']} rows are usable",
            "",
            f"{facts['hours']:.2f} h; seconds per row: " + ", ".join(f"{k} {v}" for k, v in facts["seconds"].items()),
        ]
        lines += [f"\n{note[0].upper()}{note[1:]} ({count} rows)." for note, count in self.notes.items()]
        if self.shared:
            lines += ["", f"**{explain_shared(self.shared)}**"]
        dropped, noted = ("Dropped", self.dropped, self.DROPPED), ("Noted, but kept", self.noted, self.NOTED)
        for title, counts, meanings in (dropped, noted):
            if counts:
                rows = [(kind, count, meanings[kind]) for kind, count in counts.most_common()]
                lines += ["", f"## {title}", "", *markdown_table(("problem", "rows", ""), rows, right=("rows",))]
        hours = [(name, f"{hours:.2f}") for name, hours in facts["hours_per_speaker"].items()]
        lines += ["", "## Hours per speaker", "", *markdown_table(("speaker", "hours"), hours, right=("hours",))]
        if self.problems:
            header = ("line", "audio", "problem", "detail")
            lines += ["", "## Problems by row", "", *markdown_table(header, self.problems, right=("line",))]
        return "\n".join(lines) + "\n"


def check_rows(
    rows: list[Row],
    source: str,
    count_tokens: Callable[[str], int],
    on_row: Callable[[], None] = lambda: None,
    max_seconds: float = FULL_WINDOW,
) -> Report:
    """Read the audio and text of every row, and separate the usable rows from the others.

    The kept rows have the duration of their audio and a digest of its samples.

    Args:
        rows: from `read_rows`.
        source: name of the table or dataset in the report.
        count_tokens: returns the number of decoder tokens of a sentence, prefix included.
        on_row: called after each row, for a progress bar.
        max_seconds: longer audio is dropped; `inf` for a test of long audio.
    """

    def check(row: Row) -> tuple[Row, list[Problem]]:
        row, problems = check_row(row, count_tokens, max_seconds)
        on_row()
        return row, problems

    with ThreadPoolExecutor(4) as threads:  # libsndfile and soxr release the GIL
        checked = list(threads.map(check, rows))
    problems = [problem for _, found in checked for problem in found]
    usable = [row for row, found in checked if not any(problem.kind in DROPPED for problem in found)]
    kept, repeated = drop_repeated(usable)
    notes = Counter(note for row in rows for note in row.notes)
    return Report(source, len(rows), kept, sorted(problems + repeated), notes)


def check_row(
    row: Row, count_tokens: Callable[[str], int], max_seconds: float = FULL_WINDOW
) -> tuple[Row, list[Problem]]:
    """Check one row; return it with its duration and digest, and all of its problems."""
    problems = [Problem(row.line, row.name, kind, detail) for kind, detail in row.found]

    def add(kind: str, detail: str = "") -> None:
        problems.append(Problem(row.line, row.name, kind, detail))

    check_text(row, add)
    if "<|" in row.sentence:
        add("Whisper's own marks", row.sentence[:60])
    if has_words(row.sentence) and (tokens := count_tokens(row.sentence)) > MAX_TOKENS:
        add("text too long", f"{tokens} tokens")
    audio = read_audio(row, add)
    if audio is None:
        return row, problems
    samples, rate = audio
    if rate < SAMPLING_RATE:
        add("low rate", f"{rate} Hz")
    samples = resample(samples, rate, SAMPLING_RATE)
    seconds = len(samples) / SAMPLING_RATE
    if seconds < MIN_SECONDS:
        add("too short", f"{seconds:.3f} s")
    elif seconds > max_seconds:
        add("too long", f"{seconds:.1f} s")
    else:
        level = peak_level(samples)
        letters = len(re.sub(r"\W", "", row.sentence))
        if level < SILENCE:
            add("silence", f"{level:.0f} dBFS")
        elif letters / seconds > MAX_LETTERS_PER_SECOND and letters > MAX_LETTERS_PER_SECOND / 2:
            add("faster than speech", f"{letters} letters in {seconds:.1f} s")
        clipped = float((np.abs(samples) > 0.999).mean())
        if clipped > CLIPPED_SHARE:
            add("clipped", f"{clipped:.1%}")
    return dataclasses.replace(row, seconds=seconds, digest=digest(samples)), problems


def check_stream(
    rows: Iterator[Row], count_tokens: Callable[[str], int], ahead: int = 16
) -> Iterator[tuple[Row, list[Problem]]]:
    """Yield what `check_row` returns for each row of a stream, in order; `ahead` rows are read and checked at once."""
    with ThreadPoolExecutor(4) as threads:
        while chunk := list(itertools.islice(rows, ahead)):
            yield from threads.map(lambda row: check_row(row, count_tokens), chunk)


def find_leaks(train: Iterable[Row], test: Iterable[Row]) -> list[tuple[Row, Row]]:
    """Return the pairs of training and test rows whose audio is identical, wherever the files are."""
    known = {row.digest: row for row in train if row.digest}
    return [(known[row.digest], row) for row in test if row.digest in known]


def count_shared(texts: Collection[str], speakers: Collection[str], rows: list[Row]) -> dict:
    """Count what held-out rows share with the training set, which makes their error rate lower than that of new ones.

    Args:
        texts: the training set's sentences, as `content` reduces them.
        speakers: the training set's speakers.
        rows: of the test or the validation.

    Returns:
        `rows`; `sentences`, the number of these rows whose text is in the training set; `speakers`, the number of
        speakers that the rows name, and `speakers_in_both`; all 0 if nothing can be compared.
    """
    named = {row.speaker for row in rows if row.speaker}
    return {
        "rows": len(rows),
        "sentences": sum(content(row.sentence) in texts for row in rows),
        "speakers": len(named),
        "speakers_in_both": len(named & set(speakers)),
    }


def count_shared_rows(train: list[Row], rows: list[Row]) -> dict:
    """Return `count_shared` of held-out rows with these training rows."""
    return count_shared({content(row.sentence) for row in train}, {row.speaker for row in train if row.speaker}, rows)


def explain_shared(shared: dict) -> str:
    """Return one sentence on what `count_shared` found."""
    speakers = f"{shared['speakers_in_both']} of {shared['speakers']} speakers are in both"
    if not shared["speakers"]:
        speakers = "no column names the speakers"
    return (
        f"Shared with the training set: the sentences of {shared['sentences']} of {shared['rows']} rows are also "
        f"there, and {speakers}."
    )


def refuse_leaks(train: Report, test: Report) -> None:
    """Refuse a test set that shares audio with the training set, since its word error rate would be too low.

    Raises:
        ValueError: some audio is in both; the message names the rows and what to do.
    """
    leaks = find_leaks(train.kept, test.kept)
    if leaks:
        pairs = "; ".join(f"{a.name} (line {a.line}) is {b.name} (line {b.line})" for a, b in leaks[:5])
        raise ValueError(
            f"{len(leaks)} of {len(test.kept)} test recordings are also in the training set: {pairs}"
            f"{' …' if len(leaks) > 5 else ''}. Remove them from one of the two, or give only the training set and "
            "let --test-share split it."
        )


def drop_contradicted(report: Report, transcripts: list[str], normalize: Callable[[str], str]) -> Report:
    """Drop the kept rows whose text the base model's transcript contradicts, as distil-whisper filters its labels.

    Args:
        transcripts: the base model's transcript of each kept row, in order.
        normalize: applied to both texts before they are compared.
    """
    kept, problems = [], []
    for row, transcript in zip(report.kept, transcripts, strict=True):
        reference = normalize(row.sentence)
        wer = jiwer.wer(reference, normalize(transcript)) if reference else 1.0
        if wer > MAX_WER:
            detail = f"{row.sentence!r} was transcribed as {transcript!r}"
            problems.append(Problem(row.line, row.name, "contradicted", detail))
        else:
            kept.append(row)
    return dataclasses.replace(report, kept=kept, problems=sorted(report.problems + problems))


def check_text(row: Row, add: Callable[..., None]) -> None:
    """Check the cells and the text of a row, whatever it is for; `add` takes the kind and the detail of a problem."""
    if row.cells:
        add("wrong cells", f"{abs(row.cells)} too {'many' if row.cells > 0 else 'few'}")
    text = row.sentence
    if not text:
        if not row.cells < 0 and not row.found:
            add("no text")
        return
    if BROKEN.search(text):
        add("broken characters", repr(text[:60]))
    if not has_words(text):
        add("no words", text[:60])
    if re.search(r"\[.+?\]|<[^|].*?>|\{.+?\}", text):
        add("annotation", text[:60])
    odd = sorted({character for character in text if _is_odd(character)})
    if odd:
        add("odd characters", " ".join(f"{character} (U+{ord(character):04X})" for character in odd[:8]))


def has_words(text: str) -> bool:
    """Return whether a text has letters or digits."""
    return any(character.isalnum() for character in text)


def read_audio(row: Row, add: Callable[..., None]) -> tuple[np.ndarray, int] | None:
    """Return a row's samples and their rate in Hz, or None after adding the problem that prevents it."""
    if not row.audio:
        add("no audio given")
        return None
    if any(kind == "missing file" for kind, _ in row.found):
        return None
    if isinstance(row.audio, str) and not row.audio.startswith(("http://", "https://")):
        path = Path(row.audio)
        if path.is_dir():
            add("not a file")
            return None
        if not path.exists():
            add("missing file")
            return None
        if path.stat().st_size == 0:
            add("empty file")
            return None
    try:
        return load_audio(row.audio)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        add("unreadable", str(error).replace(str(row.audio), row.name))
        return None


def drop_repeated(rows: list[Row]) -> tuple[list[Row], list[Problem]]:
    """Keep the first of the rows with the same audio and text, and none of those with the same audio only."""
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


def digest(samples: np.ndarray) -> str:
    """Return the SHA-256 of float32 samples, rounded to 16 bits, by which the same audio in two files is known."""
    return hashlib.sha256(np.round(samples * 32767).astype("<i2").tobytes()).hexdigest()


def peak_level(samples: np.ndarray) -> float:
    """Return the level of the loudest 20 ms in dBFS."""
    block = SAMPLING_RATE // 50
    padded = np.pad(samples, (0, -len(samples) % block)).reshape(-1, block)
    return float(10 * np.log10(max(np.mean(padded.astype(np.float64) ** 2, axis=1).max(), 1e-20)))


def _is_odd(character: str) -> bool:
    """Return whether a character is a letter of another script than Latin, or a pictograph."""
    kind = unicodedata.category(character)
    if kind in ("So", "Cf", "Co", "Cn"):
        return character not in "°®©"
    return kind[0] == "L" and character not in "ºª" and not unicodedata.name(character, "").startswith("LATIN")
