"""Measure a recording of a known text: what is heard in it, its quality, pitch and rate, and what went wrong."""

import dataclasses

import jiwer
import numpy as np

from hfpipe.pipeline.audio_vad import find_speech

from ..normalize import normalizer
from ..score import Counts, count_characters, count_words
from .mos import RATE, estimate_mos

LOWEST, HIGHEST = 60.0, 500.0  # Hz, between which the pitch of speech is looked for
WRONG = 50.0  # percent of word errors above which nothing like the text was said, as in seed-tts-eval
LOST = 2  # words missing at the end, or heard after it, that make a failure: of one, Whisper may be to blame
ABRUPT = -20.0  # dB below its speech: of 100 whole recordings none ends as loud, of those cut in the middle 89 %
SLOW, LONGER = 2.0, 1.5  # times and seconds that speech takes beyond the speaker's own rate, if something follows it
REPEATED = 0.6  # of the added words, those that are words of the text, which Whisper may hear anew each time
FAILURES = {
    "silent": "nobody is heard",
    "wrong": f"more than {WRONG:.0f} % of the words are wrong",
    "repeats": "words of the text are said again",
    "cut": "the last words are missing, or the sound stops in the middle of one",
    "babbles": "something is said after the end, or the speech takes twice the speaker's time",
}


@dataclasses.dataclass(frozen=True)
class Measures:
    """What was measured of one recording.

    Attributes:
        heard: Whisper's transcript.
        words, characters: errors of the transcript, after the normalizer of the language.
        mos, background: estimated opinion scores, see `Opinion`: overall, and of what is heard besides the speech.
        seconds: duration.
        pitch: median fundamental frequency in Hz, NaN if none is found.
        intonation: standard deviation of the pitch in semitones, NaN if none is found.
        rate: letters a second between the first and the last sound of speech, NaN if nobody is heard.
        failures: names in `FAILURES`.
    """

    heard: str
    words: Counts
    characters: Counts
    mos: float
    background: float
    seconds: float
    pitch: float
    intonation: float
    rate: float
    failures: tuple[str, ...]


def measure(waveform: np.ndarray, text: str, heard: str, language: str, usual_rate: float | None = None) -> Measures:
    """Measure a recording of a text.

    Args:
        waveform: float32 (samples,) at 16 kHz.
        text: what should be said in it.
        heard: Whisper's transcript of it.
        language: ISO 639-1 code, whose normalizer both texts get.
        usual_rate: the speaker's own letters a second; None doesn't compare the duration.

    Raises:
        ImportError: librosa, speechmos or onnxruntime isn't installed.
    """
    normalize = normalizer(language)
    said, understood = normalize(text), normalize(heard)
    spoken = find_speech(waveform)
    seconds = (spoken[-1]["end"] - spoken[0]["start"]) / RATE if spoken else 0.0
    letters = len(said.replace(" ", ""))
    failures = find_failures(said, understood) if spoken else ("silent",)
    if spoken and ends_abruptly(waveform):
        failures = (*failures, "cut")
    if usual_rate and seconds > SLOW * letters / usual_rate and seconds > letters / usual_rate + LONGER:
        failures = (*failures, "babbles")
    opinion = estimate_mos(waveform)
    pitch, intonation = measure_pitch(waveform)
    return Measures(
        heard=heard,
        words=count_words(said, understood),
        characters=count_characters(said, understood),
        mos=opinion.overall,
        background=opinion.background,
        seconds=len(waveform) / RATE,
        pitch=pitch,
        intonation=intonation,
        rate=letters / seconds if seconds else float("nan"),
        failures=tuple(dict.fromkeys(failures)),
    )


def find_failures(said: str, heard: str) -> tuple[str, ...]:
    """Return the failures that a transcript shows, both texts normalized: names in `FAILURES`."""
    if not said or not heard:
        return ("silent",) if said else ()
    aligned = jiwer.process_words(said, heard)
    chunks = aligned.alignments[0]
    words = heard.split()
    added = [word for each in chunks if each.type == "insert" for word in words[each.hyp_start_idx : each.hyp_end_idx]]
    again = sum(word in said.split() for word in added)
    failures = {
        "wrong": 100 * (aligned.substitutions + aligned.deletions + aligned.insertions) > WRONG * len(said.split()),
        "repeats": len(added) >= LOST and again >= REPEATED * len(added),
        "cut": chunks[-1].type == "delete" and chunks[-1].ref_end_idx - chunks[-1].ref_start_idx >= LOST,
        "babbles": chunks[-1].type == "insert" and len(added) - again >= LOST,
    }
    return tuple(name for name, failed in failures.items() if failed)


def ends_abruptly(waveform: np.ndarray) -> bool:
    """Return whether a waveform (samples,) at 16 kHz ends as loud as speech is, in the middle of a sound."""
    blocks = waveform[: len(waveform) // 160 * 160].reshape(-1, 160).astype(np.float64)  # of 10 ms
    if not len(blocks):
        return False
    powers = (blocks**2).mean(1) + 1e-12
    loud = np.percentile(powers, 90)
    return bool(10 * np.log10(np.mean(waveform[-160:].astype(np.float64) ** 2 + 1e-12) / loud) > ABRUPT)


def measure_pitch(waveform: np.ndarray) -> tuple[float, float]:
    """Return the median pitch in Hz and its standard deviation in semitones; NaN where no voice is found.

    It is probabilistic YIN (Mauch & Dixon 2014), of librosa.

    Args:
        waveform: float32 (samples,) at 16 kHz.
    """
    try:
        import librosa
    except ImportError as error:
        raise ImportError("measuring the pitch needs librosa: pip install 'hfpipe[finetune]'") from error
    pitches, is_voiced, _ = librosa.pyin(
        waveform, fmin=LOWEST, fmax=HIGHEST, sr=RATE, frame_length=1024, hop_length=320
    )
    pitches = pitches[is_voiced]
    if not len(pitches):
        return float("nan"), float("nan")
    median = float(np.median(pitches))
    return median, float(np.std(12 * np.log2(pitches / median)))
