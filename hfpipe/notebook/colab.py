"""Tell whether this is Google Colab, and let its user choose files from their machine."""

import importlib.util
from pathlib import Path


def in_colab() -> bool:
    """Tells whether Colab's own package, `google.colab`, can be imported."""
    return importlib.util.find_spec("google") is not None and importlib.util.find_spec("google.colab") is not None


def upload(what: str) -> Path:
    """Shows Colab's button to choose a file, and gives where the file now lies.

    Args:
        what: to upload, in words for the user.

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
