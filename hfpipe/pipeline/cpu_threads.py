"""Share the cores between computations that run at the same time, and refuse those that can't run after a fork."""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_computing_process: int | None = None  # the id of the process in which hfpipe first computed


def refuse_forked_process() -> None:
    """Raise RuntimeError in a process that was forked after hfpipe computed in its parent.

    The threads of OpenMP and onnxruntime don't survive a fork, so the first computation of such a process would hang.
    """
    global _computing_process
    if _computing_process is None:
        _computing_process = os.getpid()
    elif _computing_process != os.getpid():
        raise RuntimeError(
            f"this process ({os.getpid()}) was forked after hfpipe had computed in process {_computing_process}, and "
            "the threads that compute don't survive a fork. Start processes by 'spawn' or 'forkserver' "
            "(multiprocessing.get_context('spawn')), or fork before the pipeline is loaded, and load it in each child."
        )


@contextlib.contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Limit what torch computes for this thread to `count` threads within the block; other threads keep theirs."""
    before = torch.get_num_threads()
    _set_threads(count, before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_to_one_core() -> None:
    """Limit what torch computes for this thread to one core; other threads keep theirs."""
    _set_threads(1, torch.get_num_threads())


def _set_threads(count: int, others: int) -> None:
    """Set the number for this thread. torch keeps one for each thread, but new ones take the last that any was set."""
    torch.set_num_threads(count)
    restore = threading.Thread(target=torch.set_num_threads, args=[others])
    restore.start()
    restore.join()
