"""Detect speech with silero-vad."""

import copy
import functools
import threading

import numpy as np
import torch

from .cpu_threads import limit_threads
from .engine_cancel import holding

SPEECH_THRESHOLD = 0.5  # probability of speech, silero-vad's own default
VAD_SAMPLING_RATE = 16_000  # Hz
LISTENING_BLOCK = 30 * VAD_SAMPLING_RATE  # samples; the first block with speech in it is enough

# silero-vad keeps state between the frames of a recording, in the model: two threads in it would end the process.
_lock = threading.Lock()


def find_speech(samples: np.ndarray, **options) -> list[dict[str, int]]:
    """Return where somebody speaks: the first sample and the one after the last ("start", "end") of each stretch.

    Recordings of several threads take turns.

    Args:
        samples: float32 (samples,) at 16 kHz.
        options: of `silero_vad.get_speech_timestamps`.
    """
    # Its steps are too small to share between cores, and threads that wait for each other slow a busy machine.
    with holding(_lock), limit_threads(1):
        get_speech_timestamps, model = _silero()
        return get_speech_timestamps(torch.from_numpy(samples), model, threshold=SPEECH_THRESHOLD, **options)


def has_speech(samples: np.ndarray) -> bool:
    """Return whether somebody speaks in a float32 waveform of shape (samples,) at 16 kHz."""
    starts = range(0, len(samples), LISTENING_BLOCK)
    return any(find_speech(samples[start : start + LISTENING_BLOCK]) for start in starts)


def new_detector() -> torch.nn.Module:
    """Return a silero-vad model of the caller's own, which takes 512 samples at a time and remembers them."""
    with _lock:
        detector = copy.deepcopy(_silero()[1])
    detector.reset_states()
    return detector


@functools.cache
def _silero():
    with limit_threads(torch.get_num_threads()):  # importing silero_vad sets one thread for the whole process
        from silero_vad import get_speech_timestamps, load_silero_vad

        return get_speech_timestamps, load_silero_vad()
