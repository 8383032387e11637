"""Measure when each stage of an answer ran."""

import contextlib
import time
from collections.abc import Iterator

from .errors import explain_out_of_memory


class Clock:
    """The seconds of each stage of one answer, counted from when the clock was made.

    Attributes:
        spans: when each stage ran, as pairs of seconds, by "asr", "llm", "tts" and "tts_base".
        marks: seconds until something happened for the first time, by name.
    """

    def __init__(self):
        self._start = time.perf_counter()
        self._running: dict[str, float] = {}  # the stages under way, with the second in which each began
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.marks: dict[str, float] = {}

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of a stage; running out of memory in it is explained."""
        self._running[name] = self.now()
        try:
            with explain_out_of_memory(name.partition("_")[0]):
                yield
        finally:
            self._stop(name)

    @contextlib.contextmanager
    def pause(self, name: str) -> Iterator[None]:
        """Leave the block out of the stage under way."""
        self._stop(name)
        try:
            yield
        finally:
            self._running[name] = self.now()

    def mark(self, name: str, since: str | None = None) -> None:
        """Note when something first happened, in seconds since the stage `since` began, or since the clock did."""
        self.marks.setdefault(name, self.now() - (self._running[since] if since else 0.0))

    def seconds(self, name: str) -> float:
        """Return the seconds that a stage ran."""
        return sum(end - start for start, end in self.spans.get(name, ()))

    def halve(self, name: str, other: str) -> None:
        """Count half of a stage's seconds under another name: both were done at once."""
        start, end = self.spans[name][0][0], self.spans[name][-1][1]
        middle = start + self.seconds(name) / 2
        self.spans[name], self.spans[other] = [(start, middle)], [(middle, end)]

    def timings(self) -> dict[str, float]:
        """Return the seconds of each stage, the marks, "total", and "overlap": the share in which two stages ran."""
        total = self.now()
        both = sum(
            max(0.0, min(end, other_end) - max(start, other_start))
            for start, end in self.spans.get("tts", ())
            for other_start, other_end in self.spans.get("llm", ())
        )
        stages = {name: self.seconds(name) for name in self.spans}
        return {**stages, **self.marks, "total": total, "overlap": both / total}

    def _stop(self, name: str) -> None:
        self.spans.setdefault(name, []).append((self._running[name], self.now()))
