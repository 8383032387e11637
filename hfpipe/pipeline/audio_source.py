"""Open whatever a caller has for audio: a path, a URL, bytes, a file object, or samples with their rate."""

import base64
import binascii
import contextlib
import io
import numbers
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

URL_TIMEOUT = 30  # seconds
SAMPLES = (np.ndarray, torch.Tensor, list, tuple)
MAX_NAME = 200  # characters of a path or URL in a message
VALID_AUDIO = (
    "valid audio is a path, an http(s) or data: URL, bytes, a binary file object, an array of integers or floats, "
    "(sampling_rate, array), or a dict with 'array' and 'sampling_rate'"
)


def name_audio(audio) -> str:
    """Return the name of an input for a message, without its samples or its bytes."""
    if isinstance(audio, dict) and isinstance(audio.get("path"), (str, os.PathLike)):
        audio = audio["path"]
    if isinstance(audio, (str, os.PathLike)):
        location = str(os.fspath(audio))
        if is_data_url(location):
            return "the audio of the data: URL"
        return f"'{location}'" if len(location) <= MAX_NAME else f"'{location[:MAX_NAME]}…'"
    file = find_file(audio)
    if file is not None and isinstance(name := getattr(audio, "filename", None) or getattr(file, "name", None), str):
        return f"'{name}'"
    return f"the audio given as {type(audio).__name__}"


def rated_samples(audio) -> tuple[object, object] | None:
    """Return the samples and the rate of a pair of them, in either order; None if it is no such pair.

    Gradio has (sampling_rate, samples); soundfile, librosa and torchaudio have (samples, sampling_rate).
    """
    if isinstance(audio, (tuple, list)) and len(audio) == 2:
        for samples, rate in (audio, (audio[1], audio[0])):
            if _is_number(rate) and not _is_number(samples) and isinstance(samples, SAMPLES):
                return samples, rate
    return None


def is_data_url(location: str) -> bool:
    """Return whether a string is a data: URL (RFC 2397)."""
    return location[:64].lstrip()[:5].lower() == "data:"


def find_file(audio):
    """Return the file object behind an object that can be read, or behind an upload; None if there is none."""
    file = getattr(audio, "file", audio)  # UploadFile of Starlette and FastAPI, whose own read() is a coroutine
    return file if callable(getattr(file, "read", None)) and not isinstance(audio, os.PathLike) else None


def encoded_source(audio):
    """Return what of an input is an encoded file (a path, a URL, bytes or a file object); None if it has samples."""
    if isinstance(audio, dict):
        if audio.get("bytes"):
            return bytes(audio["bytes"])
        if audio.get("path") is not None:
            return audio["path"]
        return None
    is_encoded = isinstance(audio, (str, os.PathLike, bytes, bytearray, memoryview)) or find_file(audio) is not None
    return audio if is_encoded else None


@contextlib.contextmanager
def open_audio(source, name: str) -> Iterator[BinaryIO]:
    """Open a path, an http(s) or data: URL, bytes or a file object as a seekable binary file.

    A file object of the caller's is read from its start if it can seek, else from where it is, and is left open.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError, TypeError: it can't be opened or read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
        return
    if not isinstance(source, (str, os.PathLike)):
        yield _seekable(find_file(source), name)
        return
    location = os.fspath(source)
    if isinstance(location, bytes):
        location = os.fsdecode(location)
    if is_data_url(location):
        yield io.BytesIO(_decode_data_url(location.lstrip()))
    elif re.match("https?://", location, re.IGNORECASE):
        yield io.BytesIO(_download(location))
    else:
        with _open_path(location, name) as file:
            yield _seekable(file, name)


def _is_number(value) -> bool:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    return is_real or (isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0)


def _open_path(location: str, name: str) -> BinaryIO:
    try:
        return open(location, "rb")
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{name} is a folder; give an audio file (wav, flac, ogg, mp3).") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no audio file {name[1:-1]}; check the path (now in {Path.cwd()})."
        ) from error
    except PermissionError as error:
        if Path(location).is_dir():  # what Windows says of a folder
            raise IsADirectoryError(f"{name} is a folder; give an audio file (wav, flac, ogg, mp3).") from error
        raise PermissionError(f"{name} may not be read by this user; check its permissions.") from error
    except (OSError, ValueError) as error:  # a name that is too long, or has a null character in it
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{name} is no path of an audio file ({reason}); {VALID_AUDIO}.") from error


def _seekable(file, name: str) -> BinaryIO:
    """Return a file object itself if it can seek, else its bytes in memory."""
    try:
        file.seek(0)
        probe = file.read(0)
    except (AttributeError, OSError):
        probe = file.read()
        file = io.BytesIO(probe) if isinstance(probe, bytes) else file
    if not isinstance(probe, (bytes, bytearray)):
        raise TypeError(f"{name} doesn't read as bytes but as {type(probe).__name__}; open the file with mode 'rb'.")
    return file


def _download(location: str) -> bytes:
    try:
        with urllib.request.urlopen(location, timeout=URL_TIMEOUT) as response:
            return response.read()
    except (OSError, ValueError) as error:
        raise ValueError(f"could not download {location}: {error}. Check the address and the connection.") from error


def _decode_data_url(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma:
        raise ValueError("the data: URL has no comma before its data; valid is data:audio/wav;base64,UklGR….")
    raw = urllib.parse.unquote_to_bytes(data)
    if head.rpartition(";")[2].strip().lower() != "base64":
        return raw
    raw = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")  # either alphabet of RFC 4648
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the data: URL isn't valid base64 ({error}); encode or copy it again.") from error
