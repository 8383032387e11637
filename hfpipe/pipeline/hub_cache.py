"""Cache what hfpipe computes on disk: the offline repo, voices, and the acceptance of the license of XTTS."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .files import atomic_write


def cache_folder() -> Path:
    """Return the cache folder, `$HFPIPE_CACHE` or `hfpipe` in the user's cache directory; it may not exist yet."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hfpipe")
    return Path(os.environ.get("HFPIPE_CACHE") or user_cache).expanduser()


def kept_on_disk(name: str, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors cached under a name, or compute and cache them.

    The cache is optional: a damaged file is replaced, and a folder that can't be written to is ignored.

    Args:
        name: path of the cache file within the cache folder, without its suffix.
        compute: returns the tensors; it is called if there is no intact file.
    """
    file = cache_folder() / f"{name}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):  # missing or damaged
        return load_file(file)
    tensors = {key: tensor.contiguous() for key, tensor in compute().items()}
    with contextlib.suppress(OSError, SafetensorError):  # safetensors raises its own error when the disk is full
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            save_file(tensors, temporary)
    return tensors
