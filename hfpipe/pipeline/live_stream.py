"""Stream an answer: its events in order, from one thread that thinks and one that speaks."""

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch

from .audio import load_recording
from .engine import SILENCE, Engine
from .engine_cancel import Cancelled, CancelToken, cancel_scope
from .engine_clock import Clock
from .engine_events import Audio, Done, Event, PhraseEnd, Text, Transcript
from .engine_request import Request
from .live_spoken import SpokenWords
from .text_phrases import Phrases

MAX_PHRASES, MAX_EVENTS = 4, 64  # that wait to be spoken, or to be taken
JOIN_TIMEOUT = 1.0  # seconds to wait for a thread to end: a server's silence can't be interrupted


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
        """Add an item, once there is room; raise Closed if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self.is_closed)
            if self.is_closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that nothing more will be put; what waits may still be taken."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Throw away what waits, and wake both sides."""
        with self._changed:
            self.is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator:
        """Take items as they come, until the channel is finished or closed."""
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

    Iterate over it, by `for` or by `async for`. One thread hears and thinks, another speaks; they start with the first
    event that is asked for, and end with the last, with `cancel`, with an error, or when the stream is garbage
    collected. An error is raised where the events are read, with a note of its stage.

    Attributes:
        result: what a plain call returns, once the answer is done; after `cancel`, what was heard of it: the question,
            the answer as far as it was played, and its language. None before, and after an error.
        on_end: is called with the result, once there is one.
    """

    def __init__(self, engine: Engine, audio, request: Request):
        self.result: dict | None = None
        self.on_end: Callable[[dict], None] = lambda result: None
        self._work = _Work(engine, audio, request)
        self._events = iter(self._work.events)
        self._taken = 0  # samples
        self._has_raised = False
        self._finalizer = weakref.finalize(self, self._work.stop)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Event:
        self._work.start()
        event = next(self._events, None)
        if event is None:
            self._work.join()
            self._finalizer.detach()  # or it would hold an error, whose traceback holds this stream, for ever
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

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        try:
            event = await asyncio.to_thread(next, self, None)
        except asyncio.CancelledError:
            self.stop()
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    @property
    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """When each stage ran: pairs of seconds since the beginning, by "asr", "llm" and "tts"."""
        return self._work.clock.spans

    def stop(self) -> None:
        """Stop, without waiting for it: no event comes any more. Any thread may call it."""
        self._work.stop()

    def cancel(self, played: float | None = None) -> None:
        """Stop, as when somebody interrupts: no event comes any more, and no thread goes on.

        Args:
            played: seconds of the sound that were played; None counts all that was handed out.
        """
        self._work.stop()
        self._work.join()
        if self.result is None and self._work.error is None and self._work.heard is not None:
            heard, language = self._work.heard, self._work.request.reading(self._work.heard.language)
            self._end({"question": heard.text, "answer": self.said(played), "language": language})

    def said(self, played: float | None = None) -> str:
        """Return the words of the answer that were said in so many seconds of its sound, or in all handed out."""
        samples = self._taken if played is None else round(played * self._work.sampling_rate)
        return self._work.spoken.within(min(samples, self._taken))

    def _end(self, result: dict) -> None:
        self.result = result
        self.on_end(result)


class _StreamClock(Clock):
    """A clock that notes the stage of an error."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        try:
            with super().stage(name):
                yield
        except Exception as error:
            error.add_note(f"in the stage {name!r} of the stream")
            raise


class _Work:
    """What the threads of a stream share; they don't know the stream, so that it can be collected while they run."""

    def __init__(self, engine: Engine, audio, request: Request):
        self.engine, self.audio, self.request = engine, audio, request
        self.sampling_rate = engine.tts.sampling_rate
        self.events, self.phrases = Channel(MAX_EVENTS), Channel(MAX_PHRASES)
        self.token = CancelToken()
        self.error: BaseException | None = None
        self.heard: Transcript | None = None
        self.answer = ""
        self.spoken = SpokenWords(self.sampling_rate)
        self.clock: Clock = _StreamClock()
        self.has_sounded = threading.Event()  # or never will
        self.has_started = False
        jobs = (("hfpipe-think", self._think), ("hfpipe-speak", self._speak))
        self.threads = [threading.Thread(target=self._run, args=(job,), name=name, daemon=True) for name, job in jobs]

    def start(self) -> None:
        if not self.has_started and not self.token.is_cancelled:
            self.has_started, self.clock = True, _StreamClock()
            for thread in self.threads:
                thread.start()

    def stop(self) -> None:
        self.token.cancel()
        self.has_sounded.set()
        self.phrases.close()
        self.events.close()

    def join(self) -> None:
        for thread in self.threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(JOIN_TIMEOUT)

    def _run(self, job: Callable[[], None]) -> None:
        try:
            with cancel_scope(self.token), torch.inference_mode():
                job()
        except (Cancelled, Closed):
            pass
        except BaseException as error:
            if not self.token.is_cancelled:
                self.error = error
            self.token.cancel()  # the other thread's work
            self.has_sounded.set()
            self.phrases.close()
            self.events.finish()

    def _think(self) -> None:
        """Hear and think; the text goes to the reader as it is written, and to the voice in phrases."""
        with self.clock.stage("asr"):
            question = load_recording(self.audio)
        [heard] = self.engine.hear([question], self.request, self.clock)
        self.heard = heard
        self.events.put(heard)
        phrases = Phrases(heard.language)
        is_on_cpu = self.engine.asr.model.device.type == "cpu"

        def pass_on(text: str) -> None:
            self.answer += text
            self.events.put(Text(text))
            for phrase in phrases.push(text):
                self.phrases.put((phrase, heard.language))
                if is_on_cpu and not self.has_sounded.is_set():
                    # Somebody waits for the first sound: the voice gets all cores until it is there.
                    with self.clock.pause("llm"):
                        self.has_sounded.wait()

        [self.answer] = self.engine.think([heard], self.request, self.clock, pass_on)
        for phrase in phrases.finish():
            self.phrases.put((phrase, heard.language))
        self.phrases.finish()

    def _speak(self) -> None:
        """Speak the phrases as they come, and then say that all is done."""
        sounds = [SILENCE]
        for event in self.engine.speak(self._next_phrases(), self.request, self.clock, in_chunks=True):
            self.has_sounded.set()  # also where a phrase ends without a sound
            if isinstance(event, PhraseEnd):
                self.spoken.end()
            else:
                self.clock.mark("first_audio")
                sounds.append(event.audio)
                self.spoken.add(len(event.audio))
                self.events.put(event)
        if not self.phrases.is_closed:
            assert self.heard is not None  # or its thread would have closed the channel
            audio, timings = np.concatenate(sounds), self.clock.timings()
            result = self.engine.result(self.heard, self.answer, audio, self.request, timings)
            self.events.put(Done(result))
            self.events.finish()

    def _next_phrases(self) -> Iterator[tuple[str, str]]:
        for phrase, language in self.phrases:
            self.spoken.begin(phrase)
            yield phrase, language
