"""Detect speech with silero-vad."""

import contextlib
import copy
import functools
import threading
from collections.abc import Iterator

import numpy as np
import torch

from .cpu_threads import limit_threads
from .engine_cancel import holding

_threads = torch.get_num_threads()
from silero_vad import get_speech_timestamps, load_silero_vad  # noqa: E402

torch.set_num_threads(_threads)  # importing silero_vad has set one thread for the process

SPEECH_THRESHOLD = 0.5  # probability of speech, silero-vad's own default
VAD_SAMPLING_RATE = 16_000  # Hz
LISTENING_BLOCK = 30 * VAD_SAMPLING_RATE  # samples; the first block with speech in it is enough
FRAME = 512  # samples that silero-vad takes at a time

# silero-vad misses words of quiet recordings. Those blocks whose peak is below QUIET are made louder for it.
QUIET, LOUD, MAX_GAIN = 0.05, 0.5, 1000.0
PEAK_SHARE = 0.001  # of a block's samples may be louder than what counts as its peak: clicks

# silero-vad keeps state between the frames of a recording, in the model: two threads in it would end the process.
_lock = threading.Lock()


def find_speech(samples: np.ndarray, **options) -> list[dict[str, int]]:
    """Return where somebody speaks: the first sample and the one after the last ("start", "end") of each stretch.

    Short recordings of several threads take turns; a long one, which they would wait for, gets a model of its own.

    Args:
        samples: float32 (samples,) at 16 kHz.
        options: of `silero_vad.get_speech_timestamps`.
    """
    # Its steps are too small to share between cores, and threads that wait for each other slow a busy machine.
    own = new_detector() if len(samples) > LISTENING_BLOCK else None
    with limit_threads(1), contextlib.nullcontext() if own is not None else holding(_lock):
        louder = _Louder(_shared_detector() if own is None else own, [gain(block) for block in _blocks(samples)])
        return get_speech_timestamps(torch.from_numpy(samples), louder, threshold=SPEECH_THRESHOLD, **options)


def has_speech(samples: np.ndarray) -> bool:
    """Return whether somebody speaks in a float32 waveform of shape (samples,) at 16 kHz."""
    return any(find_speech(block) for block in _blocks(samples))


def gain(samples: np.ndarray) -> float:
    """Return the factor that makes a quiet float32 waveform (samples,) loud enough for silero-vad; 1 for others."""
    if not len(samples):
        return 1.0
    rank = len(samples) - 1 - int(PEAK_SHARE * len(samples))
    peak = float(np.partition(np.abs(samples), rank)[rank])
    return min(MAX_GAIN, LOUD / peak) if 0 < peak < QUIET else 1.0


def new_detector() -> torch.nn.Module:
    """Return a silero-vad model of the caller's own, which takes 512 samples at a time and remembers them."""
    with _lock:
        detector = copy.deepcopy(_shared_detector())
    detector.reset_states()
    return detector


def _blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    return (samples[start : start + LISTENING_BLOCK] for start in range(0, len(samples), LISTENING_BLOCK))


class _Louder:
    """A silero-vad model that hears each block of a recording with a gain of its own; no copy of it is made."""

    def __init__(self, model: torch.nn.Module, gains: list[float]):
        self.model, self.gains, self.position = model, gains, 0

    def reset_states(self) -> None:
        self.model.reset_states()
        self.position = 0

    def __call__(self, frame: torch.Tensor, sampling_rate: int) -> torch.Tensor:
        factor = self.gains[min(self.position // LISTENING_BLOCK, len(self.gains) - 1)]
        self.position += FRAME
        return self.model(frame if factor == 1 else (frame * factor).clamp(-1, 1), sampling_rate)


@functools.cache
def _shared_detector() -> torch.nn.Module:
    return load_silero_vad()
