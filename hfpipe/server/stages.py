"""Let all requests share one thread for hearing and one for speaking: each computes for one request at a time.

Threads that compute side by side on a few cores only wait for each other. A request's turn comes again with each piece
of its work, a phrase or less, so that nobody waits for the whole of somebody else's answer. Thinking is shared
otherwise: see `llm_batcher`.
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..pipeline.audio import Recording
from ..pipeline.engine import Engine
from ..pipeline.engine_cancel import Cancelled, current_token, raise_if_cancelled
from ..pipeline.engine_clock import Clock
from ..pipeline.engine_events import Transcript
from ..pipeline.engine_request import Request
from .llm_batcher import batched


class Stage:
    """A thread that computes pieces of work one after the other, in the order in which they come.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._owner = ThreadPoolExecutor(1, f"hfpipe-{name}")

    def run(self, compute: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns; raise `Cancelled` if the current token is cancelled before it begins."""
        raise_if_cancelled()
        context, token = contextvars.copy_context(), current_token()
        future = self._owner.submit(context.run, torch.inference_mode()(compute), *args)
        with token.on_cancel(future.cancel) if token else contextlib.nullcontext():
            try:
                return future.result()
            except CancelledError:
                raise Cancelled from None


@dataclass(frozen=True)
class SharedEngine(Engine):
    """The steps of an answer, shared by many threads: hearing and speaking in turns, thinking together."""

    hearing: Stage = field(default_factory=lambda: Stage("hear"))
    speaking: Stage = field(default_factory=lambda: Stage("speak"))

    def hear(self, questions: Sequence[Recording], request: Request, clock: Clock | None = None) -> list[Transcript]:
        """Transcribe spoken questions, as `Engine.hear` does."""
        return self.hearing.run(super().hear, questions, request, clock)

    def voice(self, request: Request) -> dict[str, Any]:
        """Compute the voice that a request asks for, as `Engine.voice` does."""
        return self.speaking.run(super().voice, request)

    def _sounds(self, text: str, options: dict[str, Any], in_chunks: bool) -> Generator[np.ndarray]:
        with closing(super()._sounds(text, options, in_chunks)) as sounds:
            while (sound := self.speaking.run(next, sounds, None)) is not None:
                yield sound


def share(engine: Engine) -> SharedEngine:
    """Return an engine on the same models that many threads share."""
    return SharedEngine(engine.asr, batched(engine.llm), engine.tts)
