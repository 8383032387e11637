"""Console output shared by the command lines of hfpipe and finetune: results on stdout, all else on stderr."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

console = Console()
progress = Console(stderr=True)


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

    An error exits with status 1, Ctrl-C with 130.

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
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        progress.print(f"[red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        progress.print(f"Interrupted. {how_to_resume}".rstrip(), highlight=False)
        sys.exit(130)
