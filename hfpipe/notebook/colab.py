"""Detect Google Colab, and upload files in it."""

import importlib.util
from pathlib import Path


def in_colab() -> bool:
    """Return whether this is Google Colab, whose package `google.colab` is then installed."""
    return importlib.util.find_spec("google") is not None and importlib.util.find_spec("google.colab") is not None


def upload(what: str) -> Path:
    """Show Colab's upload button, and return the path of the uploaded file.

    Args:
        what: a description of the file, shown to the user.

    Raises:
        RuntimeError: this isn't Colab.
        ValueError: no file was chosen.
    """
    if not in_colab():
        raise RuntimeError(f"the button to upload {what} is Colab's; here give the file's path instead.")
    from google.colab import files

    print(what)
    names = list(files.upload())
    if not names:
        raise ValueError(f"no file was chosen for {what}; run the cell again and choose one.")
    return Path(names[0])
