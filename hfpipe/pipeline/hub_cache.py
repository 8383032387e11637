"""Keep what hfpipe makes: the offline repo, the answer to a licence question, what was computed of voices."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


def cache_folder() -> Path:
    """Names the folder of hfpipe's own files, `$HFPIPE_CACHE` or `hfpipe` in the user's cache; it may not exist."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hfpipe")
    return Path(os.environ.get("HFPIPE_CACHE") or user_cache).expanduser()


def kept_on_disk(name: str, compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Gives tensors from the cache's file of that name, without its ending, or computes them and writes it.

    The file is written whole or not at all; a cache that is spoiled or can't be written is done without.
    """
    file = cache_folder() / f"{name}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):  # none yet, or spoiled
        return load_file(file)
    tensors = {key: tensor.contiguous() for key, tensor in compute().items()}
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial)
        os.replace(partial, file)
    except OSError:
        partial.unlink(missing_ok=True)
    return tensors
