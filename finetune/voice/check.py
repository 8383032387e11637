"""Check every recording before a voice is made of it: drop, count and report what would spoil the voice."""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from tqdm.auto import tqdm

from hfpipe.pipeline.audio import SAMPLING_RATE, resample
from hfpipe.pipeline.hub_cache import cache_folder
from hfpipe.pipeline.text_speakable import speakable

from ..check import Problem, check_text, drop_repeated, has_words, read_audio
from ..data import Row, read_rows
from ..normalize import normalizer, strip_accents
from .check_report import (
    DROPPED,
    LOW_RATE,
    MAX_CER,
    MAX_CHARACTERS,
    MAX_CLIPPED,
    MAX_EDGE,
    MAX_LETTERS_PER_SECOND,
    MAX_PAUSE,
    MAX_SECONDS,
    MIN_BACKGROUND,
    MIN_HALVES,
    MIN_LETTERS_PER_SECOND,
    MIN_OVERALL,
    MIN_SECONDS,
    MIN_VOICE,
    SILENCE,
    VoiceReport,
)
from .kept import Kept, hash_file, keep_in
from .measures import find_failures
from .sound import Sound, measure_sound
from .table import voice_row

MIN_OF_SPEAKER = 3  # recordings of a speaker, below which none of them can be told to be another's

DENIED = {"", "no", "false", "0", "n", "falso"}  # what a cell of consent says where there is none
CONSENT_COLUMNS = ("consent", "consentimiento")
TOGETHER = 16  # rows whose audio is in memory at once


@dataclasses.dataclass(frozen=True)
class Ears:
    """A Whisper in a language, by its name, and the function that transcribes waveforms at 16 kHz with it."""

    name: str
    hear: Callable[[list[np.ndarray]], list[str]]


@dataclasses.dataclass
class _Checked:
    """A row in the course of its check; `samples` are at 16 kHz, and only until it was transcribed."""

    row: Row
    problems: list[Problem]
    sound: Sound | None = None
    samples: np.ndarray | None = None
    key: str = ""

    def add(self, kind: str, detail: str = "") -> None:
        """Add a problem of the row."""
        self.problems.append(Problem(self.row.line, self.row.name, kind, detail))

    @property
    def is_usable(self) -> bool:
        return not any(problem.kind in DROPPED for problem in self.problems)


def check_voice(
    table: str | os.PathLike,
    *,
    language: str = "es",
    ears: Ears | None = None,
    max_seconds: float = MAX_SECONDS,
    keep: Path | None = None,
) -> VoiceReport:
    """Check the recordings of a table, and separate the usable ones from the others.

    Every recording is decoded once, `TOGETHER` of them at a time, in threads. What was measured is kept by the
    content of the files, so that a second check, or one that goes on after it was interrupted, doesn't measure again.

    Args:
        table: what `read_table` reads.
        language: ISO 639-1 code of the speech.
        ears: from `load_ears`, to read the recordings back and find the texts that contradict them; None doesn't.
        max_seconds: longest recording that the model takes.
        keep: folder in which measures are kept; by default one in hfpipe's cache folder.

    Raises:
        OSError: the table can't be read.
        ValueError: it isn't a table with columns of audio and text.
        ImportError: a package of the extra `finetune` is missing.
    """
    rows = read_rows(table)
    checked = []
    with (
        keep_in(cache_folder() / "voice-check" if keep is None else keep) as kept,
        ThreadPoolExecutor(4) as threads,  # libsndfile, soxr and the networks release the GIL
        tqdm(total=len(rows), desc="Checking", unit="row", leave=False) as bar,
    ):
        for start in range(0, len(rows), TOGETHER):
            some = [_Checked(row, []) for row in rows[start : start + TOGETHER]]
            _measure_some(some, language, max_seconds, kept, threads, ears)
            checked += some
            bar.update(len(some))
    return _report(checked, os.fspath(table))


def load_ears(asr: str | os.PathLike, language: str) -> Ears:
    """Load the Whisper that reads recordings back: a folder, a Hub id, a size ("base") or "offline".

    Raises:
        OSError: it can't be read.
        ValueError: it isn't a Whisper that knows the language.
    """
    from hfpipe.pipeline.asr_checkpoint import check_language

    from ..whisper import load_whisper, transcribe

    whisper, processor = load_whisper(asr)
    check_language(whisper, language)
    return Ears(f"{asr} {language}", lambda waveforms: transcribe(whisper, processor, waveforms, language))


def letters_per_second(text: str, sound: Sound, language: str = "es") -> float:
    """Return the letters of a text, as it is read aloud, per second from the first to the last sound of speech."""
    letters = len(normalizer(language)(text).replace(" ", ""))
    return letters / max(sound.seconds - sound.lead - sound.tail, 1e-3)


def _measure_some(
    some: list[_Checked], language: str, max_seconds: float, kept: Kept, threads: ThreadPoolExecutor, ears: Ears | None
) -> None:
    """Check the text, the sound and the transcript of some rows, and forget their samples."""
    for one, key in zip(some, threads.map(lambda one: hash_file(Path(one.row.audio)), some), strict=True):
        one.key = key
        one.sound = kept.sound(key) if key else None
    known = {one.key for one in some if one.sound}
    heard = {one.key: kept.transcript(one.key, ears.name) for one in some if ears and one.key}
    unheard = {key for key, transcript in heard.items() if transcript is None}
    list(threads.map(lambda one: _examine(one, language, max_seconds, one.key in unheard), some))
    samples = {
        one.key: one.samples for one in some if one.key in unheard and one.samples is not None and one.is_usable
    }
    new = dict(zip(samples, ears.hear(list(samples.values())), strict=True)) if ears and samples else {}
    kept.add(
        {one.key: one.sound for one in some if one.sound and one.key not in known}, new, ears.name if ears else ""
    )
    for one in some:
        one.samples = None
        transcript = new.get(one.key, heard.get(one.key))
        if transcript is not None and one.is_usable:
            _check_transcript(one, transcript, language)


def _examine(one: _Checked, language: str, max_seconds: float, is_heard: bool) -> None:
    """Check a row's text, and its sound unless that can't be read; decode it if it isn't known or has to be heard."""
    row = one.row
    one.problems += [Problem(row.line, row.name, kind, detail) for kind, detail in row.found]
    check_text(row, one.add)
    consent = next((row.extra[name] for name in CONSENT_COLUMNS if name in row.extra), None)
    if consent is not None and consent.strip().lower() in DENIED:
        one.add("no consent", consent)
    if has_words(row.sentence) and len(said := speakable(row.sentence, language)) > MAX_CHARACTERS:
        one.add("text too long", f"{len(said)} characters")
    seconds = _seconds_by_header(row.audio)
    if seconds > 2 * max_seconds:  # hours of it needn't be decoded
        one.add("too long", f"{seconds:.1f} s")
        return
    if one.sound is None or (is_heard and one.is_usable):
        audio = read_audio(row, one.add)
        if audio is None:
            return
        samples, rate = audio
        one.samples = resample(samples, rate, SAMPLING_RATE)
        one.sound = one.sound or measure_sound(samples, rate)
    _check_sound(one, one.sound, language, max_seconds)
    one.row = dataclasses.replace(row, seconds=one.sound.seconds, digest=one.sound.digest)


def _check_sound(one: _Checked, sound: Sound, language: str, max_seconds: float) -> None:
    """Add the problems of a row's sound, and of its text beside it."""
    if sound.rate < LOW_RATE:
        one.add("low rate", f"{sound.rate} Hz")
    if sound.clipped > MAX_CLIPPED:
        one.add("clipped", f"{sound.clipped:.1%}")
    if sound.seconds < MIN_SECONDS:
        one.add("too short", f"{sound.seconds:.3f} s")
        return
    if sound.seconds > max_seconds:
        one.add("too long", f"{sound.seconds:.1f} s")
    if sound.level < SILENCE:
        one.add("silence", f"{sound.level:.0f} dBFS")
        return
    if not sound.spoken or sound.opinion is None:
        one.add("no speech")
        return
    if sound.opinion.background < MIN_BACKGROUND:
        one.add("noise or music", f"{sound.opinion.background:.1f} of 5")
    elif sound.opinion.overall < MIN_OVERALL:
        one.add("poor sound", f"{sound.opinion.overall:.1f} of 5")
    for kind, seconds in (("silence before", sound.lead), ("silence after", sound.tail)):
        if seconds > MAX_EDGE:
            one.add(kind, f"{seconds:.1f} s")
    if sound.pause > MAX_PAUSE:
        one.add("long pause", f"{sound.pause:.1f} s")
    if sound.cut:
        one.add("cut")
    if sound.halves is not None and sound.halves < MIN_HALVES:
        one.add("several speakers", f"similarity {sound.halves:.2f}")
    if has_words(one.row.sentence):
        rate = letters_per_second(one.row.sentence, sound, language)
        if rate > MAX_LETTERS_PER_SECOND:
            one.add("faster than speech", f"{rate:.0f} letters per second")
        elif rate < MIN_LETTERS_PER_SECOND:
            one.add("slower than speech", f"{rate:.1f} letters per second")


def _check_transcript(one: _Checked, transcript: str, language: str) -> None:
    """Add what Whisper's transcript says against a row's text; accents don't count, which many tables lack."""
    said, heard = (strip_accents(normalizer(language)(text)) for text in (one.row.sentence, transcript))
    detail = f"{one.row.sentence!r} was transcribed as {transcript!r}"
    failures = find_failures(said, heard)
    if not said or jiwer.cer(said, heard) > MAX_CER:
        one.add("contradicted", detail)
    elif "cut" in failures:
        one.add("end not said", detail)
    elif "babbles" in failures:
        one.add("end not written", detail)


def _report(checked: list[_Checked], source: str) -> VoiceReport:
    """Compare the rows with each other, and report on all."""
    _check_speakers(checked)
    problems = [problem for one in checked for problem in one.problems]
    kept, repeated = drop_repeated([one.row for one in checked if one.is_usable])
    notes = Counter(note for one in checked for note in one.row.notes)
    return VoiceReport(source, len(checked), kept, sorted(problems + repeated), notes)


def _check_speakers(checked: list[_Checked]) -> None:
    """Add which recordings are unlike the others of their speaker, and which speakers come from several countries."""
    by_speaker = defaultdict(list)
    for one in checked:
        if one.row.speaker and one.is_usable:
            by_speaker[one.row.speaker].append(one)
    for rows in by_speaker.values():
        countries = sorted({country for one in rows if (country := voice_row(one.row).country)})
        if len(countries) > 1:
            for one in rows:
                one.add("several countries", ", ".join(countries))
        voiced = [one for one in rows if one.sound and one.sound.voice]
        if len(voiced) < MIN_OF_SPEAKER:
            continue
        voices = np.array([one.sound.voice for one in voiced if one.sound])
        others = voices.sum(axis=0) - voices
        alike = (voices * others).sum(axis=1) / np.linalg.norm(others, axis=1)
        for one, likeness in zip(voiced, alike, strict=True):
            if likeness < MIN_VOICE:
                one.add("another speaker", f"similarity {likeness:.2f} to {one.row.speaker}'s others")


def _seconds_by_header(audio: str | bytes) -> float:
    """Return a file's duration as its header has it, 0 if libsndfile can't tell."""
    try:
        return soundfile.info(audio).duration
    except (OSError, RuntimeError, TypeError):
        return 0.0
