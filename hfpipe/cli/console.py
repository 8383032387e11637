"""Console output shared by the command lines of hfpipe and finetune: results on stdout, all else on stderr.

A terminal that can't show a character gets a question mark in its place. A reader that closes the pipe, as `head`
does, ends the command quietly.
"""

import atexit
import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

for _stream in (sys.stdout, sys.stderr):
    if hasattr(_stream, "reconfigure"):
        _stream.reconfigure(errors="replace")

console = Console(soft_wrap=True)  # a line stays one in any width, so that a path in it can be copied
progress = Console(stderr=True, soft_wrap=True)


def print_json(value) -> None:
    """Print a value as JSON; what the terminal's encoding may lack is escaped, so that it is read back unchanged."""
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    print(json.dumps(value, ensure_ascii=not is_unicode, indent=2))


@atexit.register
def flush_quietly() -> None:
    """Write what is buffered for stdout and stderr; drop it if nobody reads it any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends, and would report the error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (AttributeError, ValueError):  # none, or closed
            pass


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Show a spinner while the block runs, and print how long it took."""
    start = time.perf_counter()
    with progress.status(f"{what} …"):
        yield
    progress.print(f"{what}: {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def plain_errors(notes_from: str = "", how_to_resume: str = "") -> Iterator[None]:
    """Print expected errors and warnings as one plain line each, without a traceback.

    An error exits with status 1, Ctrl-C with 130. A closed pipe exits with 1 too, and without a word.

    Args:
        notes_from: regular expression of the modules whose `UserWarning`s are printed; by default all.
        how_to_resume: printed after Ctrl-C.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of libraries are for their developers
            warnings.filterwarnings("always", category=UserWarning, module=notes_from)
            warnings.showwarning = lambda message, *rest: progress.print(f"[yellow]Note:[/] {escape(str(message))}")
            yield
    except BrokenPipeError:
        sys.exit(1)
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        progress.print(f"[red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        progress.print(f"Interrupted. {how_to_resume}".rstrip(), highlight=False)
        sys.exit(130)
