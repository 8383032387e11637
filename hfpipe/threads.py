"""Share the cores between what computes at the same time."""

import contextlib
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
