"""Check where results go before models load."""

import tempfile
from pathlib import Path


def check_output(file: Path, hint: str) -> None:
    """Raise an error unless a file can be written, in a folder that may have to be made; nothing is left behind.

    Args:
        file: what will be written or replaced.
        hint: what to do about it, for the message.

    Raises:
        OSError: it can't be written; the message says why.
    """
    folder = file.parent
    made: list[Path] = []
    try:
        for parent in (*reversed(folder.parents), folder):
            if not parent.exists():
                parent.mkdir()
                made.append(parent)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if file.is_dir():
            raise IsADirectoryError(0, "there is a folder of that name")
    except OSError as error:
        raise OSError(f"{file} can't be written ({error.strerror or error}). {hint}") from error
    finally:
        for parent in reversed(made):
            parent.rmdir()
