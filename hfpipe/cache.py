"""Say where hfpipe keeps what it makes: the offline repo, the answer to a licence question."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Names the folder of hfpipe's own files, `$HFPIPE_CACHE` or `hfpipe` in the user's cache; it may not exist."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hfpipe")
    return Path(os.environ.get("HFPIPE_CACHE") or user_cache).expanduser()
