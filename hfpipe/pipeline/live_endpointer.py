"""Detect where turns begin and end in live audio, chunk by chunk, and cut them out."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import soxr
import torch

from .audio import SAMPLING_RATE, check_sampling_rate, load_audio
from .audio_vad import SPEECH_THRESHOLD, new_detector

FRAME = 512  # samples that silero-vad hears at once at 16 kHz
HYSTERESIS, LOWEST = 0.15, 0.01  # silence begins so far below the threshold of speech, or there: silero-vad's own
PAUSE = 0.7  # seconds of silence that end a turn
LONGEST_PAUSE = 4.0  # seconds that end a turn which doesn't sound complete
ASK_AFTER = 0.1  # seconds of silence; later, a turn detector tells complete turns less well from others
VALID_PAUSES = (0.1, 10.0)  # seconds; a "p" or a "t" is silent for nearly as long as the first
VALID_MARGINS = (0.0, 10.0)
VALID_THRESHOLDS = (0.0, 1.0)
SHORTEST_SPEECH = 0.25  # seconds, silero-vad's min_speech_duration_ms: a click or a cough is no turn
LONGEST_GAP = 0.1  # seconds of silence within these, its min_silence_duration_ms
LONGEST_TURN = 30.0  # seconds, Whisper's window; then the turn is cut
MARGIN = 0.3  # seconds kept before the speech and after it: soft first sounds are heard late


@dataclass(frozen=True)
class TurnBegan:
    """Somebody has started to speak: a player should stop now.

    Attributes:
        at: where in the live audio the turn begins, in seconds, its margin included: the `start` of its `TurnEnded`.
        said: what was heard, by the clock, of the answer that this interrupts: "" before its first sound. None where
            no answer was under way.
    """

    at: float
    said: str | None = None
    type: ClassVar[str] = "turn_began"


@dataclass(frozen=True, eq=False)
class TurnEnded:
    """A turn is over.

    Attributes:
        audio: its samples, float32 (samples,), at 16 kHz, with a little of the silence around them.
        start, end: where in the live audio these begin and end, in seconds since its first sample, or since the last
            `reset` or `finish` of the `Endpointer`.
    """

    audio: np.ndarray
    start: float
    end: float
    sampling_rate: int = SAMPLING_RATE
    type: ClassVar[str] = "turn_ended"


class Endpointer:
    """Detect in live audio, taken chunk by chunk, when somebody starts to speak and when they have finished.

    The turns depend on the audio alone and not on how it was cut. Silence, noise and clicks make none, and what is
    kept of them is a fraction of a second. A turn of half a minute is cut, and another one goes on from there.

    Args:
        sampling_rate: Hz of the chunks.
        pause: seconds of silence that end a turn, 0.1 to 10; by default 0.7, or 4 with a turn detector.
        turn_detector: a `SmartTurn`, or another function that takes a turn so far, float32 (samples,) at 16 kHz, and
            returns the probability that it is complete. It is asked once in each pause, after 0.1 s, by the thread
            that pushes, and the turn ends after `pause * (1 - probability)` seconds of silence: soon where it sounds
            complete, and late where somebody is looking for a word.
        threshold: the probability, 0 to 1, from which silero-vad's frames count as speech. A higher one needs
            clearer speech, as in a noisy room.
        margin: seconds, 0 to 10, that a turn keeps of what was heard before its speech and after it.

    Raises:
        ValueError: no such rate, pause, threshold or margin.
    """

    def __init__(
        self,
        sampling_rate: int = SAMPLING_RATE,
        pause: float | None = None,
        turn_detector: Callable[[np.ndarray], float] | None = None,
        *,
        threshold: float = SPEECH_THRESHOLD,
        margin: float = MARGIN,
    ):
        if pause is None:
            pause = PAUSE if turn_detector is None else LONGEST_PAUSE
        _check("pause", pause, VALID_PAUSES, "seconds of silence that end a turn")
        _check("threshold", threshold, VALID_THRESHOLDS, "the probability from which a frame counts as speech")
        _check("margin", margin, VALID_MARGINS, "seconds around the speech that a turn keeps")
        self._rate, self._threshold = check_sampling_rate(sampling_rate, "the live audio"), threshold
        self._pause, self._margin = _frames_in(pause), _frames_in(margin)
        self._turn_detector = turn_detector
        self._detector = new_detector()
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard: what comes next doesn't continue it."""
        self._resampler = soxr.ResampleStream(self._rate, SAMPLING_RATE, 1) if self._rate != SAMPLING_RATE else None
        self._detector.reset_states()
        self._waiting = np.zeros(0, np.float32)  # less than a frame
        self._frames: deque[np.ndarray] = deque()  # of the turn, or of the moment before one
        self._heard = 0  # samples, in whole frames
        self._is_turn = False
        self._speech = self._silence = 0  # frames with speech, and without since the last of them
        self._patience = self._pause  # frames of silence that end the turn

    @property
    def silence(self) -> float:
        """The seconds of silence since somebody last spoke in the turn under way."""
        return self._silence * FRAME / SAMPLING_RATE

    @property
    def turn(self) -> np.ndarray | None:
        """What was heard so far of the turn under way, float32 (samples,) at 16 kHz; None between turns."""
        return np.concatenate(self._frames) if self._is_turn else None

    def push(self, chunk) -> list[TurnBegan | TurnEnded]:
        """Take the next samples: an array of any length, (samples,) or (samples, 1), of floats or integers.

        Raises:
            ValueError, TypeError: it holds no samples of one channel.
        """
        return self._take(_to_float32(chunk), is_last=False)

    def finish(self) -> list[TurnBegan | TurnEnded]:
        """End the turn under way, since no more audio comes, and forget all that was heard."""
        events = self._take(np.zeros(0, np.float32), is_last=True)
        if self._is_turn:
            events.append(self._ended([*self._frames, self._waiting], self._heard + len(self._waiting)))
        self.reset()
        return events

    def _take(self, samples: np.ndarray, is_last: bool) -> list[TurnBegan | TurnEnded]:
        if self._resampler is not None:
            samples = np.clip(self._resampler.resample_chunk(samples, is_last), -1.0, 1.0)
        samples = np.concatenate([self._waiting, samples])
        whole = len(samples) - len(samples) % FRAME
        self._waiting = samples[whole:]
        events = [self._hear(frame) for frame in samples[:whole].reshape(-1, FRAME)]
        return [event for event in events if event is not None]

    def _hear(self, frame: np.ndarray) -> TurnBegan | TurnEnded | None:
        """Add a frame to what was heard, and return the event if a turn begins or ends with it."""
        with torch.no_grad():
            speech = self._detector(torch.from_numpy(frame), SAMPLING_RATE).item()
        self._frames.append(frame)
        self._heard += FRAME
        if speech >= self._threshold:
            self._speech, self._silence = self._speech + 1, 0
        elif speech < max(self._threshold - HYSTERESIS, LOWEST) or self._silence or not self._is_turn:
            self._silence += 1
        if self._is_turn:
            return self._end_turn()
        if self._speech >= _frames_in(SHORTEST_SPEECH):
            self._is_turn, self._patience = True, self._pause
            return TurnBegan(at=(self._heard - FRAME * len(self._frames)) / SAMPLING_RATE)
        if self._silence >= _frames_in(LONGEST_GAP):
            self._speech = 0  # it was a click
        if self._speech == 0:
            self._keep_margin()
        return None

    def _end_turn(self) -> TurnEnded | None:
        if self._turn_detector is not None and self._silence == _frames_in(ASK_AFTER):
            incomplete = 1 - self._turn_detector(np.concatenate(self._frames))
            self._patience = math.ceil(self._pause * incomplete)
        if self._silence < self._patience and len(self._frames) < _frames_in(LONGEST_TURN):
            return None
        frames = list(self._frames)
        end = len(frames) - max(0, self._silence - self._margin)
        turn = self._ended(frames[:end], self._heard - FRAME * (len(frames) - end))
        self._frames = deque(frames[end:])
        self._keep_margin()
        self._is_turn, self._speech = False, 0
        return turn

    def _ended(self, pieces: list[np.ndarray], end: int) -> TurnEnded:
        """Return the event of a turn, from its samples in pieces and the position, in samples, where they end."""
        audio = np.concatenate(pieces)
        return TurnEnded(audio, (end - len(audio)) / SAMPLING_RATE, end / SAMPLING_RATE)

    def _keep_margin(self) -> None:
        while len(self._frames) > self._margin:
            self._frames.popleft()


def _check(name: str, value: float, valid: tuple[float, float], meaning: str) -> None:
    low, high = valid
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; valid is {low} to {high}: {meaning}.")


def _frames_in(seconds: float) -> int:
    return math.ceil(seconds * SAMPLING_RATE / FRAME)


def _to_float32(chunk) -> np.ndarray:
    """Return the samples of a chunk, which may be none, as float32 (samples,) in [-1, 1]."""
    chunk = np.asarray(chunk)
    if chunk.ndim == 2 and chunk.shape[1] == 1:  # as sound cards' libraries give one channel
        chunk = chunk[:, 0]
    if chunk.ndim != 1:
        raise ValueError(
            f"a chunk of live audio has shape {chunk.shape}; valid is (samples,) or (samples, 1): give one channel."
        )
    return load_audio(chunk)[0] if chunk.size else np.zeros(0, np.float32)
