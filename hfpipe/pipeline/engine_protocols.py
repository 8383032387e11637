"""What the pipeline asks of its parts: what each must do, and what it may be able to do besides.

A part is any object that fits; it needs no base class. An ability that a part has is found by its names alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np


class LanguageModel(Protocol):
    """A part that thinks.

    It is called with the question and the language to answer in (ISO 639-1; with its region if it is one of
    `SpeaksRegions`), and with those of the options `system_prompt`, `history`, `max_new_tokens` and `generate_kwargs`
    that a call of the pipeline gives. `history` comes as the caller wrote it.
    """

    def __call__(self, question: str, *, language: str, **options: Any) -> str:
        """Return the answer to a question."""


@runtime_checkable
class StreamsText(Protocol):
    """A `LanguageModel` that passes its answer on as it is written: while `streams` is True, a call takes `on_text`.

    `on_text` is called with the next words; concatenated as they are, they are the answer.
    """

    streams: bool


@runtime_checkable
class AnswersBatches(Protocol):
    """A `LanguageModel` that, while `batches` is True, takes a list of questions and returns a list of answers."""

    batches: bool

    def __call__(self, question: list[str], *, language: str, **options: Any) -> list[str]: ...


class SpeechModel(Protocol):
    """A part that speaks, at `sampling_rate` Hz.

    It is called with a text, its language (ISO 639-1), the recordings of the voice to imitate (a sequence of
    `Reference`) or None, and what the call's `tts_kwargs` hold; and with `speaker` if it is one of `NamesVoices`.
    """

    sampling_rate: int

    def __call__(self, text: str, *, language: str, speaker_wav=None, **options: Any) -> np.ndarray:
        """Return the waveform of a text, float32 (samples,) in [-1, 1]."""


@runtime_checkable
class StreamsSpeech(Protocol):
    """A `SpeechModel` that makes a waveform in chunks."""

    def stream(self, text: str, **options: Any) -> Iterator[np.ndarray]:
        """Yield the chunks of what a call with the same arguments returns."""


@runtime_checkable
class SpeaksBatches(Protocol):
    """A `SpeechModel` that speaks several texts at once, for less than one after the other; it `ResolvesVoices`."""

    def speak_batch(self, texts: list[str], language: str, voices: list, **options: Any) -> list[np.ndarray]:
        """Return the waveform of each text, which a call with the same `voice` and options would return."""


@runtime_checkable
class ComparesVoices(Protocol):
    """A `SpeechModel` that speaks in the voice asked for and in its own at once."""

    def compare(self, text: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the waveform in the voice asked for, and the one in the model's own."""


@runtime_checkable
class ResolvesVoices(Protocol):
    """A `SpeechModel` that computes a voice once; its calls take what that gives as `voice`, and no `speaker_wav`."""

    def resolve_voice(self, speaker_wav=None, speaker: str | None = None) -> Any:
        """Return the voice of recordings, or of a name; without either, the model's own."""


@runtime_checkable
class WantsSpeakerText(Protocol):
    """A `ResolvesVoices` that, while `wants_speaker_text` is True, imitates a recording with what is said in it.

    Its `resolve_voice` takes `speaker_text`: the words, or a function that writes down a list of `Reference`s.
    """

    wants_speaker_text: bool


@runtime_checkable
class SpeaksLanguages(Protocol):
    """A `SpeechModel` that says which languages it speaks: ISO 639-1 codes, or None where it doesn't know."""

    languages: tuple[str, ...] | None


@runtime_checkable
class SpeaksRegions(Protocol):
    """A part that, while `regions` is True, takes languages with their region, such as "es-MX"."""

    regions: bool


@runtime_checkable
class ClonesVoices(Protocol):
    """A `SpeechModel` that says whether it really imitates a `speaker_wav`."""

    clones: bool


@runtime_checkable
class NamesVoices(Protocol):
    """A `SpeechModel` with voices of its own, asked for by name as `speaker`."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the voices."""


@runtime_checkable
class SavesVoices(Protocol):
    """A `SpeechModel` that keeps voices under a name, and writes them to a folder and reads them again."""

    saved_voices: dict[str, Any]

    def save_voice(self, name: str, speaker_wav, consent_by: str | None = None, consent_on=None) -> Any: ...

    def write_voices(self, folder) -> None: ...

    def read_voices(self, folder) -> None: ...


@runtime_checkable
class SavesItself(Protocol):
    """A part that can be saved with the pipeline, as a flat folder."""

    def save_pretrained(self, folder) -> None:
        """Write the part to a folder that its loader reads."""


@runtime_checkable
class MovesToDevices(Protocol):
    """A part that can be moved to a torch device."""

    def to(self, device) -> Any:
        """Move the part, and return it."""


@runtime_checkable
class NeedsPackages(Protocol):
    """A part whose code needs packages from PyPI beyond those of the pipeline."""

    requirements: tuple[str, ...]


OnText = Callable[[str], None]
