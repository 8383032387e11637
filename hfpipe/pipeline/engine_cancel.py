"""Stop what another thread computes, between two layers of a model, where it stands."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from torch import nn


class Cancelled(Exception):
    """What is computed isn't wanted any more."""


class Cancel:
    """A wish to stop, which what computes under `until` hears within a layer's time."""

    def __init__(self):
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []
        self.is_set = False

    def set(self) -> None:
        """Wishes to stop: `check` raises from now on, and what `calling` asked for is called."""
        with self._lock:
            self.is_set, calls, self._calls = True, self._calls, []
        for call in calls:
            call()

    @contextlib.contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """Has something called if the wish comes within the block, or came before."""
        with self._lock:
            came = self.is_set
            if not came:
                self._calls.append(call)
        if came:
            call()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._calls.remove(call)


_heeded: ContextVar[Cancel | None] = ContextVar("heeded", default=None)


@contextlib.contextmanager
def until(cancel: Cancel) -> Iterator[None]:
    """Has what this thread computes in the block heed a wish to stop."""
    token = _heeded.set(cancel)
    try:
        yield
    finally:
        _heeded.reset(token)


def heeded() -> Cancel | None:
    """Gives the wish that this thread heeds, if any."""
    return _heeded.get()


def check() -> None:
    """Raises Cancelled where the wish came that this thread heeds."""
    cancel = _heeded.get()
    if cancel is not None and cancel.is_set:
        raise Cancelled


def watch(model: nn.Module) -> nn.Module:
    """Has each block of a model on a CPU check before it computes; returns the model.

    On a GPU blocks take no time worth saving, and a hook would stand in the way of compiling them.
    """
    if next((p.device.type for p in model.parameters()), "cpu") == "cpu":
        for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            for block in blocks:
                block.register_forward_pre_hook(_check_before)
    return model


def _check_before(module, inputs) -> None:
    check()
