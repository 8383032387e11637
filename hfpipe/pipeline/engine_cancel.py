"""Cancel what another thread computes, between two layers of a model."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from torch import nn
from torch.utils.hooks import RemovableHandle

POLL = 0.05  # seconds between two looks at a lock that another call holds


class Cancelled(Exception):
    """The computation was cancelled."""


class CancelToken:
    """A request to stop, which computations within its `cancel_scope` observe within a layer's time.

    Attributes:
        is_cancelled: whether `cancel` was called.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self.is_cancelled = False

    def cancel(self) -> None:
        """Request to stop, and call what `on_cancel` registered. Any thread may call it, more than once."""
        with self._lock:
            self.is_cancelled, callbacks, self._callbacks = True, self._callbacks, []
        for callback in callbacks:
            callback()

    @contextlib.contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call `callback` if the token is cancelled within the block, or at once if it already is."""
        with self._lock:
            is_cancelled = self.is_cancelled
            if not is_cancelled:
                self._callbacks.append(callback)
        if is_cancelled:
            callback()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._callbacks.remove(callback)


_current: ContextVar[CancelToken | None] = ContextVar("current_token", default=None)


@contextlib.contextmanager
def cancel_scope(token: CancelToken) -> Iterator[None]:
    """Let `token` cancel what this thread, or task, computes within the block."""
    previous = _current.set(token)
    try:
        yield
    finally:
        _current.reset(previous)


def current_token() -> CancelToken | None:
    """Return the token of the innermost `cancel_scope`, or None outside of any."""
    return _current.get()


def raise_if_cancelled() -> None:
    """Raise `Cancelled` if the current token is cancelled."""
    token = _current.get()
    if token is not None and token.is_cancelled:
        raise Cancelled


@contextlib.contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock within the block; raise `Cancelled` if the current token is cancelled while this waits for it."""
    while not lock.acquire(timeout=POLL):
        raise_if_cancelled()
    try:
        yield
    finally:
        lock.release()


def add_cancel_hooks(model: nn.Module) -> list[RemovableHandle]:
    """Let each block of a model on the CPU raise `Cancelled` before it computes.

    A model on an accelerator gets no hooks: its blocks take no time worth saving, and a hook would stand in the way of
    compiling them. So call it once the model is where it stays, and remove the handles before moving it again.

    Returns:
        The hooks' handles.
    """
    if next((parameter.device.type for parameter in model.parameters()), "cpu") != "cpu":
        return []
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [block.register_forward_pre_hook(_raise_before_forward) for blocks in lists for block in blocks]


def _raise_before_forward(module, inputs) -> None:
    raise_if_cancelled()
