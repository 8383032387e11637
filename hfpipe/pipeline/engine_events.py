"""The events of an answer, in the order in which they come: what was heard, the words, their sound, the end."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np


@dataclass(frozen=True)
class Transcript:
    """What was heard, and in which language (ISO 639-1)."""

    text: str
    language: str
    type: ClassVar[Literal["transcript"]] = "transcript"


@dataclass(frozen=True)
class Text:
    """The next words of the answer; concatenated as they are, they are all of it."""

    text: str
    type: ClassVar[Literal["text"]] = "text"


@dataclass(frozen=True, eq=False)
class Audio:
    """The next samples of the answer, float32 (samples,), their rate in Hz, and the phrase that they are part of."""

    audio: np.ndarray
    sampling_rate: int
    text: str
    type: ClassVar[Literal["audio"]] = "audio"


@dataclass(frozen=True, eq=False)
class Done:
    """The end, with what a plain call returns."""

    result: dict
    type: ClassVar[Literal["done"]] = "done"


@dataclass(frozen=True)
class PhraseEnd:
    """A phrase was spoken to its end, which may have made no sound. It never leaves the engine."""

    text: str


Event = Transcript | Text | Audio | Done
