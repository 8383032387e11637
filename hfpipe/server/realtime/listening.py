"""What a client says: bytes that it appends, cut into turns by the server or by the client."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...pipeline.audio import SAMPLING_RATE
from ...pipeline.live_endpointer import MARGIN, Endpointer, TurnBegan, TurnEnded
from ..errors import ApiError
from ..sound import from_base64
from .codec import RATES, WIDTHS, decode
from .config import SessionConfig

MAX_HELD = 120.0  # seconds of sound without a commit
DRAFT_PAUSE = 0.1  # seconds of silence after which an answer may be begun, in case the turn has ended
BARGE_IN = 0.6  # seconds of speech into an answer that are more than an "ajá"
PAUSES = {"low": 1.2, "medium": 0.7, "auto": 0.7, "high": 0.4}  # seconds, of "semantic_vad" without a model
LONGEST_PAUSES = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}  # seconds, with a model: OpenAI's own


@dataclass(frozen=True)
class SpeechBegan:
    """Somebody speaks, since so many seconds after the session's first sound."""

    at: float


@dataclass(frozen=True, eq=False)
class SpeechPaused:
    """Who speaks has paused, perhaps at the end of the turn: what was said, float32 (samples,) at `rate` Hz."""

    sound: np.ndarray
    rate: int


@dataclass(frozen=True)
class SpeechResumed:
    """It was a pause within the turn."""


@dataclass(frozen=True, eq=False)
class SpeechEnded:
    """A turn is over: its sound, float32 (samples,) at `rate` Hz, and where it began and ended, in seconds.

    `is_brief` says that it was said into an answer, and is so short that nothing was made of its beginning: if it is
    an "ajá", nothing is to be made of it at all.
    """

    sound: np.ndarray
    rate: int
    start: float
    end: float
    is_brief: bool = False


Heard = SpeechBegan | SpeechPaused | SpeechResumed | SpeechEnded


class InputBuffer:
    """The sound of a session that isn't yet part of its conversation.

    Args:
        config: the session's options.
        new_detector: makes a detector for a format's rate and OpenAI's options of turn detection.
    """

    def __init__(self, config: SessionConfig, new_detector: Callable[[int, dict], Endpointer]):
        self._new_detector = new_detector
        self._held = bytearray()  # without a detector
        self._rest = b""  # half a sample
        self._seconds = self._base = 0.0  # appended in all, and before the detector was made
        self._began: TurnBegan | None = None  # said into an answer, and nothing made of it yet
        self._detector: Endpointer | None = None
        self._options: tuple | None = None
        self.configure(config)

    @property
    def seconds(self) -> float:
        """The seconds of sound that were appended in all."""
        return self._seconds

    def configure(self, config: SessionConfig) -> None:
        """Listen as a session's options say; what was heard is forgotten where these change how it is heard."""
        options = (config.input_format, config.turn_detection and dict(config.turn_detection))
        if options == self._options:
            return
        self._options = options
        self.format, detection = options
        self.rate = RATES[self.format]
        self._detector = None if detection is None else self._new_detector(self.rate, detection)
        self._pauses = detection is not None and detection["type"] == "server_vad"
        self._margin = (detection or {}).get("prefix_padding_ms", 1000 * MARGIN) / 1000  # kept around what is said
        self.clear()

    def clear(self) -> None:
        """Forget what isn't part of the conversation yet."""
        self._held, self._rest, self._began, self._base = bytearray(), b"", None, self._seconds
        self._is_paused = False
        if self._detector is not None:
            self._detector.reset()

    def append(self, audio: str, is_answering: bool) -> list[Heard]:
        """Take the next sound, in base64, and return what it tells.

        Args:
            is_answering: whether an answer is being made or played, so that a brief word needn't be a turn.

        Raises:
            ApiError: it isn't base64, or too much without a commit.
        """
        data, width = self._rest + from_base64(audio, "audio"), WIDTHS[self.format]
        whole = len(data) // width * width
        if self._detector is None and len(self._held) + whole > MAX_HELD * self.rate * width:
            message = f"the buffer would hold more than {MAX_HELD:.0f} s; commit or clear it."
            raise ApiError(413, message, "too_long", "audio")
        sound, self._rest = data[:whole], data[whole:]
        self._seconds += whole / width / self.rate
        if self._detector is None:
            self._held += sound
            return []
        return self._detect(decode(sound, self.format), is_answering)

    def commit(self) -> SpeechEnded:
        """End the turn here; raise `ApiError` if there is none."""
        if self._detector is None:
            sound = decode(bytes(self._held), self.format)
            turns = [SpeechEnded(sound, self.rate, self._base, self._seconds)] if len(sound) else []
        else:
            turns = [self._ended(event) for event in self._detector.finish() if isinstance(event, TurnEnded)]
        self.clear()
        if not turns:
            message = "there is no speech in the buffer; append some before input_audio_buffer.commit."
            raise ApiError(400, message, "input_audio_buffer_commit_empty")
        return turns[-1]

    def _detect(self, samples: np.ndarray, is_answering: bool) -> list[Heard]:
        assert self._detector is not None
        found: list[Heard] = []
        for event in self._detector.push(samples):
            if isinstance(event, TurnBegan):
                self._began = event
                if not is_answering:
                    found.append(self._confirm())
            else:
                turn = self._ended(event)
                if self._began is not None and turn.end - turn.start - 2 * self._margin >= BARGE_IN:
                    found.append(self._confirm())
                found.append(turn if self._began is None else self._ended(event, is_brief=True))
                self._began = None
        if self._began is not None and (not is_answering or self._is_long()):
            found.append(self._confirm())
        return [*found, *self._watch_pause(is_answering)]

    def _watch_pause(self, is_answering: bool) -> list[Heard]:
        """Tell when a pause begins that may end the turn, and when it doesn't."""
        assert self._detector is not None
        turn = self._detector.turn
        if turn is None or is_answering or not self._pauses:
            self._is_paused = False
        elif not self._is_paused and self._detector.silence >= DRAFT_PAUSE:
            self._is_paused = True
            return [SpeechPaused(turn, SAMPLING_RATE)]
        elif self._is_paused and self._detector.silence == 0:
            self._is_paused = False
            return [SpeechResumed()]
        return []

    def _is_long(self) -> bool:
        """Whether who began to speak into an answer still does, for longer than an "ajá" takes."""
        assert self._detector is not None and self._began is not None
        is_speaking = self._detector.silence == 0
        return is_speaking and self._seconds - self._base - self._began.at - self._margin >= BARGE_IN

    def _confirm(self) -> SpeechBegan:
        assert self._began is not None
        began, self._began = SpeechBegan(self._base + self._began.at), None
        return began

    def _ended(self, event: TurnEnded, is_brief: bool = False) -> SpeechEnded:
        start, end = self._base + event.start, self._base + event.end
        return SpeechEnded(event.audio, event.sampling_rate, start, end, is_brief)


def new_detector(rate: int, options: dict, turn_detector) -> Endpointer:
    """Return a detector of turns as OpenAI's `turn_detection` describes one.

    Args:
        rate: Hz of the sound.
        options: of "server_vad" or "semantic_vad", complete.
        turn_detector: tells by its sound whether a turn is complete; without one, "semantic_vad" goes by the pause.
    """
    if options["type"] == "server_vad":
        pause, margin = options["silence_duration_ms"] / 1000, options["prefix_padding_ms"] / 1000
        return Endpointer(rate, pause, threshold=options["threshold"], margin=margin)
    eagerness = options["eagerness"] or "auto"
    if turn_detector is None:
        return Endpointer(rate, PAUSES[eagerness])
    return Endpointer(rate, LONGEST_PAUSES[eagerness], turn_detector)
