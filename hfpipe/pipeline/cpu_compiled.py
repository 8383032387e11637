"""Compile loops over arrays with numba, and run them on as many threads as torch."""

import threading

import numba
import torch

# Allow reassociation, without which sums aren't vectorized, but keep the semantics of NaN and infinity.
NUMBA_OPTIONS = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
_numba_lock = threading.Lock()  # not every threading layer of numba may be used by two threads at the same time


def compiled(**options):
    """Return a decorator that compiles a function with numba on its first call, with an on-disk cache if possible."""

    def decorate(function):
        try:
            return numba.njit(cache=True, **NUMBA_OPTIONS, **options)(function)
        except RuntimeError:  # no writable folder for the cache
            return numba.njit(**NUMBA_OPTIONS, **options)(function)

    return decorate


def run_parallel(function, *arguments) -> None:
    """Call a function compiled with `parallel=True` on as many threads as torch uses, passed as the last argument."""
    threads = torch.get_num_threads()
    with _numba_lock:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        function(*arguments, threads)
