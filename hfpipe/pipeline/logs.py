"""The logger of hfpipe, and silence for what transformers says to its programmers."""

import contextlib
import logging
import threading
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

logger = logging.getLogger("hfpipe")
_lock = threading.Lock()
_quiet_blocks = 0  # under way in all threads; the first sets the verbosity, the last sets it back
_before: tuple[int, bool]  # the verbosity and whether bars are shown, outside of any block


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars within the block; blocks of several threads may overlap."""
    global _quiet_blocks, _before
    with _lock:
        if _quiet_blocks == 0:
            _before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
            transformers_logging.set_verbosity_error()
            transformers_logging.disable_progress_bar()
        _quiet_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _quiet_blocks -= 1
            if _quiet_blocks == 0:
                verbosity, has_bars = _before
                transformers_logging.set_verbosity(verbosity)
                if has_bars:
                    transformers_logging.enable_progress_bar()
