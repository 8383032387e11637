"""Decode recordings that clients send, within limits, and encode what they hear."""

import base64
import binascii
import contextlib
import io
import shutil
import subprocess

import numpy as np
import soundfile
import soxr

from ..pipeline.audio import SAMPLING_RATE, Recording, Reference, load_audio, load_reference
from ..pipeline.engine_cancel import current_token, raise_if_cancelled
from .errors import ApiError
from .settings import Settings

OUTPUT_RATE = 24_000  # Hz, that of OpenAI's PCM and one that Opus has
LIBSNDFILE = {  # format and subtype by the name that OpenAI gives it
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
}
MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm": f"audio/L16; rate={OUTPUT_RATE}; channels=1",
}
UNKNOWN_LENGTH = b"\xff\xff\xff\xff"
MAX_REFERENCE_SECONDS = 60.0
ENCODER_SECONDS = 60


def from_base64(text: str, param: str) -> bytes:
    """Decode base64; raise an `ApiError` that names the parameter if it isn't valid."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            400, f"{param} isn't valid base64 ({error}); encode it again.", "invalid_base64", param
        ) from error


def to_base64(data: bytes) -> str:
    """Encode bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def decode_recording(data: bytes, settings: Settings) -> Recording:
    """Decode a client's recording to 16 kHz.

    Nothing but bytes is ever decoded: a path or a URL that a client sends is none of its own.

    Raises:
        ApiError: it is empty or too large.
        ValueError: it is no audio, damaged or too long.
    """
    samples, _ = _decode(data, settings.max_seconds, settings.max_bytes, SAMPLING_RATE)
    return Recording(samples, "the recording")


def decode_reference(data: bytes, settings: Settings) -> tuple[Reference, ...]:
    """Decode and check a recording of a voice to speak with; no cache keeps the recording.

    Raises:
        ApiError, ValueError: see `decode_recording`; and what `load_reference` raises.
    """
    samples, rate = _decode(data, MAX_REFERENCE_SECONDS, settings.max_bytes, None)
    return tuple(load_reference({"array": samples, "sampling_rate": rate}))


def _decode(data: bytes, max_seconds: float, max_bytes: int, rate: int | None) -> tuple[np.ndarray, int]:
    if len(data) > max_bytes:
        raise ApiError(413, f"the recording has {len(data)} bytes; valid is up to {max_bytes}.", "too_large")
    if not data:
        raise ApiError(400, "the recording is empty; send an audio file (wav, flac, ogg, mp3).", "invalid_value")
    return load_audio(data, rate, max_seconds=max_seconds)


def _run(command: list[str], given: bytes | None = None) -> bytes:
    """Run a program until it ends or is cancelled, and return what it prints."""
    source = subprocess.DEVNULL if given is None else subprocess.PIPE
    with subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        token = current_token()
        with token.on_cancel(process.kill) if token else contextlib.nullcontext():
            try:
                printed, _ = process.communicate(given, timeout=ENCODER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                printed = b""
    raise_if_cancelled()
    return printed


class Encoder:
    """Encode speech piece by piece.

    Args:
        sound_format: "wav", "flac", "mp3", "opus", "aac" or "pcm" (16-bit little endian at 24 kHz, mono).
        sampling_rate: Hz of what is written; everything is encoded at 24 kHz.

    Use it in a `with` block, whose end frees the encoder.
    """

    def __init__(self, sound_format: str, sampling_rate: int):
        self.format, self._sent = sound_format, 0
        self._resampler = soxr.ResampleStream(sampling_rate, OUTPUT_RATE, 1, dtype="float32")
        self._buffer, self._file = io.BytesIO(), None
        if sound_format in LIBSNDFILE:
            container, subtype = LIBSNDFILE[sound_format]
            self._file = soundfile.SoundFile(self._buffer, "w", OUTPUT_RATE, 1, subtype, format=container)

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *error) -> None:
        if self._file is not None:
            self._file.close()  # before its buffer is collected

    def write(self, samples: np.ndarray, is_last: bool = False) -> bytes:
        """Encode a float32 waveform (samples,), and return the bytes that are ready; AAC is ready at the end."""
        samples = np.clip(self._resampler.resample_chunk(samples, last=is_last), -1.0, 1.0)
        if self._file is not None:
            self._file.write(samples)
        else:
            self._buffer.write((samples * 32767).astype("<i2").tobytes())
        return b"" if self.format == "aac" else self._take()

    def finish(self) -> bytes:
        """End the file, and return the bytes that remain."""
        rest = self.write(np.zeros(0, np.float32), is_last=True)
        if self._file is not None:
            self._file.close()
        if self.format != "aac":
            return rest + self._take()
        pcm = ("-f", "s16le", "-ar", str(OUTPUT_RATE), "-ac", "1", "-i", "pipe:0")
        return _run(["ffmpeg", "-nostdin", "-v", "error", *pcm, "-f", "adts", "pipe:1"], self._buffer.getvalue())

    def _take(self) -> bytes:
        """Take what was added to the buffer; a header that is corrected at the end was sent already."""
        data = self._buffer.getvalue()[self._sent :]
        if self.format == "wav" and self._sent == 0 and len(data) >= 44:
            start = data.index(b"data") + 4
            data = data[:4] + UNKNOWN_LENGTH + data[8:start] + UNKNOWN_LENGTH + data[start + 4 :]
        self._sent += len(data)
        return data

    @property
    def whole(self) -> bytes:
        """All of a file that is finished, with its length in the header where the format has one; not of AAC."""
        return self._buffer.getvalue()


def encode(samples: np.ndarray, sampling_rate: int, sound_format: str) -> bytes:
    """Encode a whole waveform (samples,); see `Encoder`."""
    with Encoder(sound_format, sampling_rate) as encoder:
        data = encoder.write(samples) + encoder.finish()
        return data if sound_format == "aac" else encoder.whole


def check_format(sound_format: str) -> None:
    """Raise an `ApiError` for AAC where there is no FFmpeg."""
    if sound_format == "aac" and shutil.which("ffmpeg") is None:
        message = "aac takes FFmpeg on the server, which has none; valid here are wav, flac, mp3, opus and pcm."
        raise ApiError(400, message, "unsupported_format", "response_format")
