"""Answer while the answer is still being thought: events in order, from two threads that feed each other."""

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .engine_cancel import Cancel, Cancelled, until
from .hub_parts import explain_out_of_memory
from .text_phrases import Phrases, pause_after
from .text_speakable import speakable

MAX_PHRASES, MAX_EVENTS = 4, 64  # that wait to be spoken, or to be taken
LONGEST_END = 1.0  # seconds that are waited for a thread's end: a server's silence can't be interrupted
CHARACTERS_PER_SECOND = 15  # of Spanish speech, about


@dataclass(frozen=True)
class Transcript:
    """What was heard, and in which language."""

    text: str
    language: str
    type: ClassVar[str] = "transcript"


@dataclass(frozen=True)
class Text:
    """The next words of the answer; joined as they are, they are all of it."""

    text: str
    type: ClassVar[str] = "text"


@dataclass(frozen=True, eq=False)
class Audio:
    """The next samples of the answer, float32 (samples,), and the phrase that they speak, whole or in part."""

    audio: np.ndarray
    sampling_rate: int
    text: str
    type: ClassVar[str] = "audio"


@dataclass(frozen=True, eq=False)
class Done:
    """The end, with what a plain call returns."""

    result: dict
    type: ClassVar[str] = "done"


class Closed(Exception):
    """Nobody takes from this channel, or puts into it, any more."""


class Channel:
    """A queue of limited length between two threads that either side may end.

    Args:
        size: how many items may wait.

    Attributes:
        is_closed: whether what waited was thrown away.
    """

    def __init__(self, size: int):
        self._items, self._size = deque(), size
        self._changed = threading.Condition()
        self._is_finished = self.is_closed = False

    def put(self, item) -> None:
        """Adds an item, once there is room; raises Closed where nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self.is_closed)
            if self.is_closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Says that nothing more will be put; what waits may still be taken."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Throws away what waits, and wakes both sides."""
        with self._changed:
            self.is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator:
        """Takes items as they come, until the channel is finished or closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_finished or self.is_closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Stream:
    """The events of one answer, in order: `Transcript`, `Text`s and `Audio`s as they come, `Done`.

    Iterate over it. One thread hears and thinks, another speaks; they begin with the first event that is asked for,
    and end with the last, with `cancel`, with an error, or when the stream is left to the garbage collector. An error
    is raised where the events are read, with a note of its stage.

    Attributes:
        result: what a plain call returns, once the answer is done; after `cancel`, what was heard of it: the question,
            the answer as far as it was played, and its language. None before, and after an error.
        on_end: is called with the result, once there is one.
    """

    def __init__(self, pipe, audio, options: dict):
        self.result: dict | None = None
        self.on_end: Callable[[dict], None] = lambda result: None
        self._work = _Work(pipe, audio, options)
        self._events = iter(self._work.events)
        self._taken = 0  # samples
        self._has_raised = False
        self._leave = weakref.finalize(self, self._work.stop)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Transcript | Text | Audio | Done:
        self._work.start()
        event = next(self._events, None)
        if event is None:
            self._work.join()
            self._leave.detach()  # or it would hold an error, whose traceback holds this stream, for ever
            if self._work.error is not None and not self._has_raised:
                self._has_raised = True
                raise self._work.error
            raise StopIteration
        if isinstance(event, Audio):
            self._taken += len(event.audio)
        elif isinstance(event, Done):
            self._work.join()
            self._end(event.result)
        return event

    @property
    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each stage ran: pairs of seconds since the beginning, by "asr", "llm" and "tts"."""
        return self._work.spans

    def stop(self) -> None:
        """Has it stop, and doesn't wait until it has: no event comes any more. Any thread may call it."""
        self._work.stop()

    def cancel(self, played: float | None = None) -> None:
        """Stops, as when somebody interrupts: no event comes any more, and no thread goes on.

        Args:
            played: seconds of the sound that were played; None takes all for played that was handed out.
        """
        self._work.stop()
        self._work.join()
        if self.result is None and self._work.error is None and self._work.heard is not None:
            question, language = self._work.heard
            self._end({"question": question, "answer": self.said(played), "language": language})

    def said(self, played: float | None = None) -> str:
        """Gives the words of the answer that were said in so many seconds of its sound, or in all handed out."""
        samples = self._taken if played is None else round(played * self._work.sampling_rate)
        return self._work.said_in(min(samples, self._taken))

    def _end(self, result: dict) -> None:
        self.result = result
        self.on_end(result)


class _Work:
    """What the threads of a stream share; they don't know the stream, so that it can be collected while they run."""

    def __init__(self, pipe, audio, options: dict):
        self.pipe, self.audio, self.options = pipe, audio, options
        self.sampling_rate = pipe.tts.sampling_rate
        self.events, self.phrases = Channel(MAX_EVENTS), Channel(MAX_PHRASES)
        self.cancel = Cancel()
        self.error: BaseException | None = None
        self.heard: tuple[str, str] | None = None  # question and language
        self.answer = ""
        self.spoken: list[list] = []  # phrases, each with its samples so far and whether these are all
        self.spans: dict[str, list[tuple[float, float]]] = {}  # of the stages, in seconds from the beginning
        self.marks: dict[str, float] = {}  # moments, in the same seconds
        self.begins: dict[str, float] = {}  # of the stages that run now
        self.has_sounded = threading.Event()  # or never will
        self.begun: float | None = None
        names = {"hfpipe-think": self._think, "hfpipe-speak": self._speak}
        self.threads = [
            threading.Thread(target=self._run, args=(job,), name=name, daemon=True) for name, job in names.items()
        ]

    def start(self) -> None:
        if self.begun is None and not self.cancel.is_set:
            self.begun = time.perf_counter()
            for thread in self.threads:
                thread.start()

    def stop(self) -> None:
        self.cancel.set()
        self.has_sounded.set()
        self.phrases.close()
        self.events.close()

    def join(self) -> None:
        for thread in self.threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(LONGEST_END)

    def said_in(self, samples: int) -> str:
        """Gives the words that were said within so many samples."""
        said = []
        for phrase, length, is_whole in self.spoken:
            if is_whole and samples >= length:
                said.append(phrase)
            else:  # which words of it is told by their number
                length = length if is_whole else max(length, len(phrase) / CHARACTERS_PER_SECOND * self.sampling_rate)
                words = phrase.split()
                said += words[: int(len(words) * samples / length)]
                break
            samples -= length
        return " ".join(said)

    def _run(self, job: Callable[[], None]) -> None:
        try:
            with until(self.cancel), torch.inference_mode():
                job()
        except (Cancelled, Closed):
            pass
        except BaseException as error:
            if not self.cancel.is_set:
                self.error = error
            self.cancel.set()  # the other thread's work
            self.has_sounded.set()
            self.phrases.close()
            self.events.finish()

    def _now(self) -> float:
        return time.perf_counter() - self.begun

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Notes when a stage ran, and which it was where it fails."""
        self.begins[name] = self._now()
        try:
            with explain_out_of_memory(name):
                yield
        except Exception as error:
            error.add_note(f"in the stage {name!r} of the stream")
            raise
        finally:
            self._end_span(name)

    def _end_span(self, name: str) -> None:
        self.spans.setdefault(name, []).append((self.begins[name], self._now()))

    def _think(self) -> None:
        """Hears, and thinks: what is thought goes to the reader as text, and in phrases to the voice."""
        with self._stage("asr"):
            self.heard = question, language = self.pipe._hear(self.audio, self.options)
            self.pipe._check_language(language)
        self.events.put(Transcript(question, language))
        phrases = Phrases(language)

        def pass_on(text: str) -> None:
            self.marks.setdefault("llm_first_token", self._now() - self.begins["llm"])
            self.answer += text
            self.events.put(Text(text))
            for phrase in phrases.push(text):
                self.phrases.put(phrase)
                if not self.has_sounded.is_set() and self.pipe.device.type == "cpu":
                    # Somebody waits for the first sound: the voice gets all cores until it is there.
                    self._end_span("llm")
                    self.has_sounded.wait()
                    self.begins["llm"] = self._now()

        with self._stage("llm"):
            self.pipe._think(question, language, self.options, pass_on)
        for phrase in phrases.finish():
            self.phrases.put(phrase)
        self.phrases.finish()

    def _speak(self) -> None:
        """Speaks the phrases as they come, and then says that all is done."""
        tts, sounds, previous = self.pipe.tts, [], None
        for phrase in self.phrases:
            words = speakable(phrase, self.heard[1])
            self.spoken.append([phrase, 0, not words])
            if not words:
                self.has_sounded.set()
                continue
            pieces = _sounds(tts, words, self.pipe._voice_options(self.heard[1], self.options))
            pause = pause_after(previous, self.sampling_rate) if previous else np.zeros(0, np.float32)
            with closing(pieces):
                while True:
                    with self._stage("tts"):
                        sound = next(pieces, None)
                    if sound is None:
                        break
                    self.marks.setdefault("first_audio", self._now())
                    self.has_sounded.set()
                    sound, pause = np.concatenate([pause, sound]), pause[:0]
                    sounds.append(sound)
                    self.spoken[-1][1] += len(sound)
                    self.events.put(Audio(sound, self.sampling_rate, phrase))
            self.spoken[-1][2], previous = True, words
            self.has_sounded.set()  # even where there was nothing to hear of it
        if not self.phrases.is_closed:
            question, language = self.heard
            text = {"question": question, "answer": self.answer, "language": language}
            speech = {"audio": np.concatenate([np.zeros(0, np.float32), *sounds]), "sampling_rate": self.sampling_rate}
            cloned = self.pipe._imitates(self.options)
            self.events.put(Done({**text, **speech, "cloned": cloned, "timings": self._timings()}))
            self.events.finish()

    def _timings(self) -> dict[str, float]:
        seconds = {name: sum(end - start for start, end in spans) for name, spans in self.spans.items()}
        both = sum(
            max(0.0, min(end, ended) - max(start, begun))
            for start, end in self.spans.get("tts", ())
            for begun, ended in self.spans["llm"]
        )
        total = self._now()
        return {**seconds, **self.marks, "total": total, "overlap": both / total}


def _sounds(tts, phrase: str, voice: dict) -> Iterator[np.ndarray]:
    """Speaks a phrase in pieces, where the part can."""
    if hasattr(tts, "stream"):
        yield from tts.stream(phrase, **voice)
    else:
        yield tts(phrase, **voice)
