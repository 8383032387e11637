"""Compute for many clients off the event loop: each in its turn, bulk work last, and nothing for one that left."""

import asyncio
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import torch

from ..pipeline.engine_cancel import POLL, Cancelled, CancelToken, cancel_scope, raise_if_cancelled
from .errors import ApiError

ROOM = 16  # items of a stream that wait to be sent
BULK_SLOTS = 1
MAX_WAY_SECONDS = 10.0  # for which a piece of bulk work gives way
MAX_RETRY_AFTER = 60  # seconds; OpenAI's client gives up above 120

Emit = Callable[[Any], None]


class WorkQueue:
    """Threads that compute, and the requests that wait for one.

    Whoever talks or asks goes before bulk work, which is done by one thread of its own and, between two pieces of it,
    gives way to them.

    Args:
        slots: requests that compute at once, besides bulk work.
        size: requests that may wait; of bulk work as many.
        stall_seconds: for which a stream waits for a client that doesn't read it.

    Attributes:
        is_stopped: whether new work is refused.
    """

    def __init__(self, slots: int, size: int, stall_seconds: float):
        self.stall_seconds, self.is_stopped = stall_seconds, False
        self._talks, self._bulk = _Lane(slots, size), _Lane(BULK_SLOTS, size)
        self._running: dict[CancelToken, asyncio.Queue] = {}  # by token, where its results go
        self._executor = ThreadPoolExecutor(slots + BULK_SLOTS, thread_name_prefix="hfpipe-serve")

    @property
    def running(self) -> int:
        """How many requests compute."""
        return self._talks.running + self._bulk.running

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._talks.waiting + self._bulk.waiting

    @property
    def is_full(self) -> bool:
        """Whether no more requests may wait, bulk work left aside."""
        return self._talks.waiting >= self._talks.size

    async def run(self, client: str, compute: Callable[[], Any], *, is_bulk: bool = False) -> Any:
        """Compute something in a thread, once it is this client's turn; a task that is cancelled cancels it.

        Raises:
            ApiError: 429 with `Retry-After` if too many wait, 503 if the server is being stopped.
        """
        async with aclosing(self.stream(client, lambda emit: emit(compute()), is_bulk=is_bulk)) as results:
            async for result in results:
                return result

    async def stream(
        self, client: str, produce: Callable[[Emit], None], *, is_bulk: bool = False
    ) -> AsyncGenerator[Any, None]:
        """Yield what a function passes to `emit`, as `run` runs it; closing the generator cancels the work.

        Args:
            produce: is called in a thread. `emit` waits while nobody takes what it gave before.
            is_bulk: whether others go before it, also between two calls of `emit`.
        """
        if self.is_stopped:
            raise _stopping()
        lane = self._bulk if is_bulk else self._talks
        await lane.enter(client)
        loop, start = asyncio.get_running_loop(), time.monotonic()
        token, room = CancelToken(), threading.Semaphore(ROOM)
        items: asyncio.Queue[tuple] = asyncio.Queue()  # () is the end

        def emit(item) -> None:
            end = time.monotonic() + self.stall_seconds
            while not room.acquire(timeout=POLL):
                raise_if_cancelled()
                if time.monotonic() > end:
                    raise Cancelled
            raise_if_cancelled()
            loop.call_soon_threadsafe(items.put_nowait, (item,))
            if is_bulk:
                self._give_way()

        def work() -> None:
            with cancel_scope(token), torch.inference_mode():
                raise_if_cancelled()
                if is_bulk:
                    self._give_way()
                produce(emit)

        def finish(future: asyncio.Future) -> None:
            self._running.pop(token, None)
            lane.leave(time.monotonic() - start)
            items.put_nowait(())
            future.exception()  # or asyncio would log it where nobody waits any more

        self._running[token] = items
        future = loop.run_in_executor(self._executor, work)
        future.add_done_callback(finish)
        try:
            while item := await items.get():
                room.release()
                yield item[0]
            if token.is_cancelled:
                raise Cancelled  # the thread may take a while to notice
            await future
        finally:
            token.cancel()

    def stop(self) -> None:
        """Refuse new work and what waits; what runs goes on."""
        self.is_stopped = True
        self._talks.refuse_waiting()
        self._bulk.refuse_waiting()

    def cancel_all(self) -> None:
        """Cancel what runs; whoever waits for it gets `Cancelled` at once."""
        for token, items in self._running.items():
            token.cancel()
            items.put_nowait(())

    def close(self) -> None:
        """Stop, cancel, and let the threads end."""
        self.stop()
        self.cancel_all()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _give_way(self) -> None:
        """Wait until nobody talks, but not for ever: bulk work is to end one day."""
        end = time.monotonic() + MAX_WAY_SECONDS
        while not self._talks.is_quiet.wait(POLL) and time.monotonic() < end:
            raise_if_cancelled()


class _Lane:
    """Slots for requests of one kind, and the queue for them; all but `is_quiet` is for the event loop alone.

    Clients are served in turn, and each client's requests in their order. Where the queue is full, a client that has
    few requests in it displaces the newest one of the client that has most.

    Attributes:
        running, waiting: how many requests there are now.
        is_quiet: set while none runs.
    """

    def __init__(self, slots: int, size: int):
        self.slots, self.size = slots, size
        self.running = self.waiting = 0
        self.is_quiet = threading.Event()
        self.is_quiet.set()
        self._queues: OrderedDict[str, deque[asyncio.Future]] = OrderedDict()  # by client, the next one first
        self._mean_seconds = 1.0

    async def enter(self, client: str) -> None:
        """Wait for a slot; raise `ApiError` 429 if too many wait."""
        if self.running < self.slots:
            self.running += 1
            self.is_quiet.clear()
            return
        if self.waiting >= self.size:
            self._make_room(client)
        future = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(future)
        self.waiting += 1
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._pass_on()  # its turn came as it left
            elif client in self._queues and future in self._queues[client]:
                self._remove(client, future)
            raise

    def leave(self, seconds: float) -> None:
        """Leave a slot after so many seconds."""
        self._mean_seconds += 0.2 * (seconds - self._mean_seconds)
        self._pass_on()

    def refuse_waiting(self) -> None:
        """Raise in those that wait that the server is being stopped."""
        for futures in self._queues.values():
            for future in futures:
                if not future.done():
                    future.set_exception(_stopping())
        self._queues.clear()
        self.waiting = 0

    def _make_room(self, client: str) -> None:
        """Displace a request of a client that has more of them waiting; raise 429 if there is none."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]))
        if len(self._queues[longest]) <= len(self._queues.get(client, ())) + 1:
            raise self._full()
        newest = self._queues[longest][-1]
        self._remove(longest, newest)
        newest.set_exception(self._full())

    def _remove(self, client: str, future: asyncio.Future) -> None:
        self._queues[client].remove(future)
        self.waiting -= 1
        if not self._queues[client]:
            del self._queues[client]

    def _pass_on(self) -> None:
        """Give a slot that was left to whoever is next, or to nobody."""
        while self._queues:
            client, futures = self._queues.popitem(last=False)
            future = futures.popleft()
            self.waiting -= 1
            if futures:
                self._queues[client] = futures  # after all others
            if not future.done():
                future.set_result(None)
                return
        self.running -= 1
        if not self.running:
            self.is_quiet.set()

    def _full(self) -> ApiError:
        seconds = math.ceil(self._mean_seconds * (self.waiting + 1) / self.slots)
        message = f"{self.waiting} requests wait already; try again after the seconds that Retry-After says."
        return ApiError(429, message, "queue_full", retry_after=max(1, min(MAX_RETRY_AFTER, seconds)))


def _stopping() -> ApiError:
    return ApiError(503, "the server is being stopped; try again when it is back.", "stopping", retry_after=5)
