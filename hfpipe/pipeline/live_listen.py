"""Answer live audio turn after turn: one thread listens, also while an answer is made, so that it can be stopped."""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .audio import SAMPLING_RATE
from .cpu_threads import limit_to_one_core
from .engine_cancel import CancelToken
from .engine_events import Audio, Done, Event
from .errors import NoSpeech
from .live_endpointer import Endpointer, TurnBegan, TurnEnded
from .live_stream import Channel, Closed

MAX_TURNS = 8  # beginnings and ends that wait to be taken
LONGEST_QUESTION = 120 * SAMPLING_RATE  # samples, of turns that nobody could answer as the next one came
ECHO = 0.5  # seconds that an answer may still be heard after it should have ended: buffers, and the room


@dataclass(frozen=True)
class Unheard:
    """No word was understood in the turn that ended, so there is no answer."""

    type: ClassVar[str] = "unheard"


def answer_turns(
    chat, chunks: Iterable, endpointer: Endpointer, interrupt: bool, options: dict
) -> Iterator[TurnBegan | TurnEnded | Unheard | Event]:
    """Answer what a conversation hears in chunks of live audio; see `Conversation.listen`."""
    listener = _Listener(chunks, endpointer, interrupt)
    threading.Thread(target=listener.listen, name="hfpipe-listen", daemon=True).start()
    answer, unanswered = None, np.zeros(0, np.float32)
    try:
        for turn, interruption in listener.turns:
            if isinstance(turn, TurnBegan):
                yield replace(turn, said=answer.interrupt() if answer else None)
                continue
            yield turn
            question = np.concatenate([unanswered, turn.audio])[-LONGEST_QUESTION:]
            answer = _Answer(chat, question, options)
            yield from answer.make(interruption)
            unanswered = unanswered[:0] if answer.was_given else question
            if not interrupt:
                listener.deaf_until = answer.ends + ECHO
    finally:
        listener.turns.close()
    if listener.error is not None:
        raise listener.error


class _Listener:
    """What the thread that listens shares with the reader; it doesn't know the reader, who can be collected."""

    def __init__(self, chunks: Iterable, endpointer: Endpointer, interrupt: bool):
        self.chunks, self.endpointer, self.interrupt = chunks, endpointer, interrupt
        self.turns = Channel(MAX_TURNS)  # each with the token that cancels its answer when the next begins
        self.interruption = CancelToken()  # of the last of them
        self.deaf_until = -math.inf  # by the clock
        self.error: BaseException | None = None

    def listen(self) -> None:
        limit_to_one_core()  # the detector's steps are too small to share
        try:
            for chunk in self.chunks:
                if self.turns.is_closed:
                    return
                if time.monotonic() >= self.deaf_until:
                    self._pass_on(self.endpointer.push(chunk))
            self._pass_on(self.endpointer.finish())
        except Closed:
            pass
        except BaseException as error:
            self.error = error
        self.turns.finish()

    def _pass_on(self, turns: list[TurnBegan | TurnEnded]) -> None:
        for turn in turns:
            has_ended = isinstance(turn, TurnEnded)
            if has_ended:
                self.interruption = CancelToken()
            else:
                self.interruption.cancel()
            if has_ended and not self.interrupt:
                self.deaf_until = math.inf  # until the reader knows when the answer will have been played
                self.endpointer.reset()
            self.turns.put((turn, self.interruption))
            if has_ended and not self.interrupt:
                return


class _Answer:
    """One answer, and how far it was played: each sound at once when it is handed out, behind those before it."""

    def __init__(self, chat, question: np.ndarray, options: dict):
        self.chat = chat
        self.stream = chat.stream({"array": question, "sampling_rate": SAMPLING_RATE}, **options)
        self.seconds, self.ends = 0.0, -math.inf  # of the sound that was handed out; when it will have been played
        self.is_unheard = False
        self.remembered: dict | None = None  # the whole answer, in the history

    def make(self, interruption: CancelToken) -> Iterator[Unheard | Event]:
        """Yield the answer's events, until somebody interrupts."""
        try:
            with interruption.on_cancel(self.stream.stop):
                for event in self.stream:
                    if isinstance(event, Audio):
                        length = len(event.audio) / event.sampling_rate
                        self.seconds, self.ends = self.seconds + length, max(self.ends, time.monotonic()) + length
                    elif isinstance(event, Done):
                        self.remembered = self.chat.history[-1]
                    yield event
        except NoSpeech:
            self.is_unheard = True
        if self.is_unheard:
            yield Unheard()

    @property
    def was_given(self) -> bool:
        """Whether something of it was handed out to be heard, or there is nothing to answer."""
        return self.seconds > 0 or self.is_unheard

    def interrupt(self) -> str | None:
        """Let the history keep what was played by now, and return it; None if there was nothing to interrupt."""
        left = max(0.0, self.ends - time.monotonic())
        if self.is_unheard or (self.remembered and not left):
            return None
        said = self.stream.said(self.seconds - left)
        if self.remembered:
            self.remembered["content"] = said + "…"
        elif self.seconds:
            self.stream.cancel(self.seconds - left)
        return said
