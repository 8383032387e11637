"""Answer a question, written or spoken: its words, and their sound as each phrase is there."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..pipeline.audio import Recording
from ..pipeline.engine import Engine
from ..pipeline.engine_clock import Clock
from ..pipeline.engine_events import Audio, Event, PhraseEnd, Text, Transcript
from ..pipeline.engine_request import Request
from ..pipeline.live_spoken import SpokenWords
from ..pipeline.text_phrases import Phrases, split_phrases
from .metrics import Metrics


@dataclass
class Turn:
    """One question and its answer, computed in the calling thread.

    Args:
        engine: the steps of an answer.
        request: what is asked for.
        metrics: where it is counted.
        speaks: whether the answer is spoken as well.

    Attributes:
        question, answer: what was asked, and what is answered.
        sounds: the answer's audio, in float32 chunks.
        spoken: which of its words these say.
    """

    engine: Engine
    request: Request
    metrics: Metrics
    speaks: bool = True
    question: str = ""
    answer: str = ""
    sounds: list[np.ndarray] = field(default_factory=list)
    spoken: SpokenWords = field(init=False)

    def __post_init__(self):
        self.spoken = SpokenWords(self.engine.tts.sampling_rate)

    def hear(self, recording: Recording, clock: Clock) -> Transcript:
        """Transcribe a recording; raises what `Engine.hear` does."""
        [heard] = self.engine.hear([recording], self.request, clock)
        return heard

    def answer_to(self, question: Transcript, clock: Clock, emit: Callable[[Event], None], heard: float = 0.0) -> None:
        """Answer a question; the words and the sounds go to `emit` as they are made.

        A phrase is spoken as soon as it is written, in between the words: on a CPU thinking and speaking at once would
        only share the cores.

        Args:
            question: what is asked, and in which language.
            clock: counts the stages.
            emit: takes `Text` and `Audio`.
            heard: seconds of the recording, for the metrics.
        """
        self.question, language = question.text, question.language
        phrases = Phrases(language)
        waiting: deque[tuple[str, str]] = deque()

        def next_phrases() -> Iterator[tuple[str, str]]:
            while True:
                yield waiting.popleft()

        speech = self.engine.speak(next_phrases(), self.request, clock, in_chunks=True)

        def say(phrase: str) -> None:
            waiting.append((phrase, language))
            self.spoken.begin(phrase)
            for event in speech:
                if isinstance(event, PhraseEnd):
                    self.spoken.end()
                    break  # what follows asks for the next phrase
                assert isinstance(event, Audio)
                clock.mark("first_audio")
                self.sounds.append(event.audio)
                self.spoken.add(len(event.audio))
                emit(event)

        def write(text: str) -> None:
            emit(Text(text))
            for phrase in phrases.push(text) if self.speaks else ():
                with clock.pause("llm"):
                    say(phrase)

        [self.answer] = self.engine.think([question], self.request, clock, write)
        for phrase in phrases.finish() if self.speaks else ():
            say(phrase)
        seconds = sum(map(len, self.sounds)) / self.engine.tts.sampling_rate
        tokens = count_tokens(self.engine, self.answer)
        self.metrics.observe(clock.timings(), heard=heard, spoken=seconds, tokens=tokens)

    @property
    def is_cut(self) -> bool:
        """Whether the answer reached the limit on its tokens; a language model of a user's own doesn't say."""
        return getattr(self.answer, "is_cut", False)

    @property
    def audio(self) -> np.ndarray:
        """The answer's audio, float32 (samples,)."""
        return np.concatenate([np.zeros(0, np.float32), *self.sounds])


def speak(engine: Engine, text: str, language: str, request: Request, metrics: Metrics) -> Iterator[np.ndarray]:
    """Yield the speech of a text, float32 (samples,), as it is made."""
    clock, samples = Clock(), 0
    phrases = ((phrase, language) for phrase in split_phrases(text, language))
    for event in engine.speak(phrases, request, clock, in_chunks=True):
        if isinstance(event, Audio):
            clock.mark("first_audio")
            samples += len(event.audio)
            yield event.audio
    metrics.observe(clock.timings(), spoken=samples / engine.tts.sampling_rate)


def count_tokens(engine: Engine, text: str) -> int:
    """Return how many tokens a text has for the language model; for one that hides its own, Whisper's count."""
    tokenizer = getattr(engine.llm, "tokenizer", None) or engine.asr.tokenizer
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
