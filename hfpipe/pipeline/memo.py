"""Keep what was computed for the last few keys, for many threads at once."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .engine_cancel import holding

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """What was computed for each of the last `size` keys. Threads that ask for one key compute it once.

    One key is computed at a time; who asks for another that isn't there waits.
    """

    def __init__(self, size: int):
        self._size = size
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._reading, self._computing = threading.Lock(), threading.Lock()

    def get(self, key: str, compute: Callable[[], Value]) -> Value:
        """Return the value of a key, computed if it isn't there."""
        found = self._find(key)
        if found is None:
            with holding(self._computing):
                found = self._find(key)
                if found is None:
                    found = compute()
                    with self._reading:
                        self._values[key] = found
                        while len(self._values) > self._size:
                            self._values.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget all values."""
        with self._reading:
            self._values.clear()

    def _find(self, key: str) -> Value | None:
        with self._reading:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)
