"""Say where this package keeps what it made once and may make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Gives the folder for derived files: `$HFPIPE_CACHE`, or `hfpipe` in the user's cache folder (XDG)."""
    return Path(
        os.environ.get("HFPIPE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hfpipe")
    ).expanduser()
