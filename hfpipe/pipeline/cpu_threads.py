"""Share the cores between what computes at the same time."""

import contextlib
import threading
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Has torch compute what this thread asks for with `count` threads, until the end of the block.

    torch keeps the number for each thread of Python; one that computes for the first time takes the last that was set.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_one_thread() -> None:
    """Has torch compute what this thread asks for with one thread from now on, and leaves the others theirs."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    restore = threading.Thread(target=torch.set_num_threads, args=[count])  # for new threads, the last that was set
    restore.start()
    restore.join()
