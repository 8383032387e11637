"""Measure a recording once: everything that the check of a voice's rows needs to know of its sound."""

import dataclasses

import numpy as np

from hfpipe.pipeline.audio import SAMPLING_RATE, clipped_share, resample
from hfpipe.pipeline.audio_speaker import embed_speaker
from hfpipe.pipeline.audio_vad import find_speech

from ..check import digest, peak_level
from .measures import ends_abruptly
from .mos import Opinion, estimate_mos

MIN_HALF = round(1.6 * SAMPLING_RATE)  # samples of speech that resemblyzer embeds at a time (its partials_n_frames)


@dataclasses.dataclass(frozen=True)
class Sound:
    """What a recording's samples say; times are in seconds, levels in dBFS.

    Attributes:
        seconds: duration.
        rate: sampling rate in Hz.
        digest: SHA-256 of the samples at 16 kHz.
        level: of the loudest 20 ms.
        cut: whether it starts or ends as loud as speech is, in the middle of a sound.
        clipped: share of the samples that lie flat against the peak.
        spoken: total of the stretches in which silero-vad hears speech; what follows is 0 or None without any.
        lead, tail: before the first of them, and after the last.
        pause: the longest between two of them.
        opinion: DNSMOS's estimate of the opinion scores.
        voice: resemblyzer's embedding of the speech, (256,) with unit norm; None for speech under 1.6 s.
        halves: cosine similarity of the voices of its two halves; None for speech under 3.2 s.
    """

    seconds: float
    rate: int
    digest: str
    level: float
    cut: bool
    clipped: float
    spoken: float = 0.0
    lead: float = 0.0
    tail: float = 0.0
    pause: float = 0.0
    opinion: Opinion | None = None
    voice: tuple[float, ...] | None = None
    halves: float | None = None


def measure_sound(samples: np.ndarray, rate: int) -> Sound:
    """Measure a recording of float32 (samples,) in [-1, 1] at `rate` Hz.

    Raises:
        ImportError: speechmos, onnxruntime or resemblyzer isn't installed.
    """
    heard = resample(samples, rate, SAMPLING_RATE)
    sound = Sound(
        seconds=len(samples) / rate,
        rate=rate,
        digest=digest(heard),
        level=peak_level(heard),
        cut=ends_abruptly(heard) or ends_abruptly(heard[::-1]),
        clipped=clipped_share(samples),
    )
    stretches = [(stretch["start"], stretch["end"]) for stretch in find_speech(heard)]
    if not stretches:
        return sound
    speech = np.concatenate([heard[start:end] for start, end in stretches])
    pauses = [after[0] - before[1] for before, after in zip(stretches, stretches[1:], strict=False)]
    voice, halves = _voices(speech)
    return dataclasses.replace(
        sound,
        spoken=len(speech) / SAMPLING_RATE,
        lead=stretches[0][0] / SAMPLING_RATE,
        tail=(len(heard) - stretches[-1][1]) / SAMPLING_RATE,
        pause=max(pauses, default=0) / SAMPLING_RATE,
        opinion=estimate_mos(heard),
        voice=voice,
        halves=halves,
    )


def _voices(speech: np.ndarray) -> tuple[tuple[float, ...] | None, float | None]:
    """Return the embedding of speech at 16 kHz, and the similarity of its halves; None where it is too short."""
    if len(speech) < MIN_HALF:
        return None, None
    if len(speech) < 2 * MIN_HALF:
        return tuple(embed_speaker([(speech, SAMPLING_RATE)]).tolist()), None
    half = len(speech) // 2
    one, other = (embed_speaker([(part, SAMPLING_RATE)]) for part in (speech[:half], speech[half:]))
    mean = (one + other) / np.linalg.norm(one + other)
    return tuple(mean.tolist()), float(one @ other)
