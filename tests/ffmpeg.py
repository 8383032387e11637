"""FFmpeg, which `make test` installs where it can."""

import shutil
import subprocess

import pytest

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg, which isn't installed, reads m4a")


def convert(source, target, *options: str) -> None:
    """Convert an audio file as the target's name and FFmpeg's options say."""
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", source, *options, target], check=True)
