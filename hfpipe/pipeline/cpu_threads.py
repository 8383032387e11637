"""Share the cores between computations that run at the same time, and refuse those that can't run after a fork."""

import contextlib
import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

MAX_ONNX_RUNS = 64  # at once; more of them wait
_onnx_threads = ThreadPoolExecutor(MAX_ONNX_RUNS, thread_name_prefix="onnxruntime")
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
    with _limit(count):
        yield


def limit_to_one_core() -> None:
    """Limit what torch computes for this thread to one core; other threads keep theirs."""
    _limit(1)


def run_onnx(session, inputs: dict[str, np.ndarray], options=None) -> list[np.ndarray]:
    """Run an ONNX model in a thread in which torch computes nothing, and return its outputs.

    On processors with AMX, torch's oneDNN may leave the tiles of a thread in the shapes of its last product, and
    onnxruntime 1.31 sets its own only if both the rows and the columns differ: else the process ends with SIGILL.

    Args:
        session: an `onnxruntime.InferenceSession`.
        inputs: by name.
        options: `onnxruntime.RunOptions`, or None.
    """
    return _onnx_threads.submit(session.run, None, inputs, options).result()


def _limit(count: int):
    """Set OpenMP's number for this thread alone, and return a context manager that restores it.

    `torch.set_num_threads` would set the default of the process as well, and a thread that first computes meanwhile,
    a caller's among them, would keep the wrong one: slower, and with sums of another rounding.
    """
    torch.get_num_threads()  # in a new thread this sets torch's default, which would replace the limit later
    return _openmp().limit(limits=count)


@functools.cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
