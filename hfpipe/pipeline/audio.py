"""Turn whatever a caller has (path, URL, bytes, array, dict) into float32 mono, and check that it holds speech."""

import functools
import hashlib
import io
import os
import shutil
import struct
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch
from transformers.pipelines.audio_utils import ffmpeg_read

from .audio_vad import has_speech
from .errors import NoSpeech
from .files import atomic_write

SAMPLING_RATE = 16_000  # Hz, what Whisper and silero-vad hear
VALID_SAMPLING_RATES = (1_000, 768_000)  # Hz
FFMPEG_SAMPLING_RATE = 48_000  # Hz, for the formats that libsndfile doesn't read
URL_TIMEOUT = 30  # seconds
MAX_CHANNELS = 32  # the shorter axis of a 2-D array is its channels, up to this many

REFERENCE_MIN_SECONDS = 3.0  # XTTS's authors claim cloning from 3 s (coqui-tts, docs/source/models/xtts.md)
REFERENCE_GOOD_SECONDS = 10.0
CLIPPED_SHARE = 1e-3  # of the samples lying flat against the peak; clean speech has none
UNKNOWN_WAV_SIZE = 0x7FFF0000  # writers to a pipe put this or more as a size that they can't know yet


class Recording(NamedTuple):
    """A decoded question: float32 (samples,) at 16 kHz, its name for messages, and the seconds that decoding took."""

    samples: np.ndarray
    name: str
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Reference:
    """One checked recording of the voice to speak with: `array` is float32 (samples,) at `sampling_rate` Hz."""

    array: np.ndarray
    sampling_rate: int

    def __iter__(self):
        """Yield the waveform and its rate, so that a reference unpacks as `load_audio`'s result does."""
        return iter((self.array, self.sampling_rate))

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of rate and samples, by which caches know the recording."""
        return hashlib.sha256(self.sampling_rate.to_bytes(4, "little") + self.array.tobytes()).hexdigest()


def load_audio(audio, sampling_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Decode one piece of audio to float32 mono in [-1, 1], at its own rate or resampled to `sampling_rate`.

    Args:
        audio: a path, an http(s) URL, the bytes of a file, an array or tensor of shape (samples,), (samples,
            channels) or (channels, samples) taken to be at 16 kHz, or a dict with `"sampling_rate"` and `"array"` or
            `"raw"`, or `"path"` or `"bytes"` (a row of `datasets.Audio`, decoded or not).
        sampling_rate: Hz to resample to; None keeps the audio's own.

    Returns:
        The waveform of shape (samples,), and its rate in Hz.

    Raises:
        FileNotFoundError, ValueError, TypeError: what was got, what is valid, what to do.
    """
    samples, rate, name = _read(audio)
    samples, rate = _to_mono_float32(samples, name), check_sampling_rate(rate, name)
    if sampling_rate is not None and rate != sampling_rate:
        samples, rate = resample(samples, rate, sampling_rate), sampling_rate
    return samples, rate


def check_sampling_rate(rate, name: str) -> int:
    """Return a sampling rate in Hz as an int; raise ValueError if it is no rate, naming what it belongs to."""
    if not isinstance(rate, (int, float, np.integer, np.floating)) or rate != int(rate):
        raise ValueError(f"{name}: sampling_rate is {rate!r}; valid is a whole number of Hz, such as 16000.")
    low, high = VALID_SAMPLING_RATES
    if not low <= rate <= high:
        raise ValueError(f"{name}: sampling rate is {rate} Hz; valid is {low} to {high} Hz. Give the true rate.")
    return int(rate)


def resample(samples: np.ndarray, sampling_rate: int, target: int) -> np.ndarray:
    """Resample a float32 waveform of shape (samples,) from `sampling_rate` to `target` Hz, within [-1, 1]."""
    if sampling_rate == target:
        return samples
    return np.clip(soxr.resample(samples, sampling_rate, target), -1.0, 1.0).astype(np.float32, copy=False)


def load_recording(audio) -> Recording:
    """Decode a question to 16 kHz; raise what `load_audio` raises."""
    start = perf_counter()
    samples, _ = load_audio(audio, SAMPLING_RATE)
    return Recording(samples, _name(audio), perf_counter() - start)


def refuse_silence(recording: Recording) -> None:
    """Raise NoSpeech if silero-vad hears nobody: Whisper invents text for silence and noise (transformers#24512)."""
    if not has_speech(recording.samples):
        raise NoSpeech(
            f"no speech in {recording.name} ({_describe(recording.samples, SAMPLING_RATE)}): it is silence, noise or "
            "too short. A question must be spoken, for a quarter of a second or more: check the microphone and record "
            "again."
        )


def load_question(audio) -> np.ndarray:
    """Decode a spoken question to float32 (samples,) at 16 kHz.

    Raises:
        NoSpeech: nobody speaks in it; also all that `load_audio` raises.
    """
    recording = load_recording(audio)
    refuse_silence(recording)
    return recording.samples


def load_reference(speaker_wav) -> list[Reference]:
    """Decode and check the recording, or recordings, of the voice to imitate, at their own sampling rate.

    Args:
        speaker_wav: what `load_audio` takes, or a list of them by one speaker; a `Reference` passes as it is.

    Raises:
        ValueError: under 3 s in all, silent or clipped. Under 10 s is warned about.
    """
    recordings = speaker_wav if isinstance(speaker_wav, (list, tuple)) else [speaker_wav]
    if isinstance(speaker_wav, Reference):
        return [speaker_wav]
    if not recordings:
        raise ValueError("speaker_wav is an empty list; give one recording of 10 to 15 s, or several.")
    if all(isinstance(recording, Reference) for recording in recordings):
        return list(recordings)
    references = [_check_reference(recording) for recording in recordings]
    seconds = sum(len(reference.array) / reference.sampling_rate for reference in references)
    if seconds < REFERENCE_MIN_SECONDS:
        raise ValueError(
            f"speaker_wav lasts {seconds:.1f} s; a voice needs at least {REFERENCE_MIN_SECONDS:.0f} s. "
            "Record 10 to 15 s of one person speaking, without music or noise."
        )
    if seconds < REFERENCE_GOOD_SECONDS:
        warnings.warn(
            f"speaker_wav lasts {seconds:.1f} s; 10 to 15 s give a closer voice. Going on with what there is.",
            stacklevel=2,
        )
    return references


def undecoded(dataset):
    """Return a dataset whose audio stays encoded: decoding it takes torchcodec and FFmpeg, `load_audio` neither."""
    features = dataset.features or {}
    if not hasattr(features.get("audio"), "decode"):
        return dataset
    return dataset.cast_column("audio", type(features["audio"])(decode=False))


def write_wav(path, samples: np.ndarray, sampling_rate: int) -> None:
    """Write a waveform of shape (samples,) in [-1, 1] as 16-bit PCM; the file appears whole or not at all."""
    with atomic_write(path) as temporary:
        soundfile.write(temporary, samples, sampling_rate, subtype="PCM_16", format="WAV")


def _check_reference(recording) -> Reference:
    if isinstance(recording, (str, os.PathLike)):
        return _check_encoded(_fetch(os.fspath(recording)), os.fspath(recording))
    if isinstance(recording, (bytes, bytearray)):
        return _check_encoded(bytes(recording))
    return recording if isinstance(recording, Reference) else _check_samples(*load_audio(recording), _name(recording))


@functools.lru_cache(maxsize=16)  # a voice that answers again isn't listened to again: 0.2 s
def _check_encoded(data: bytes, path: str | None = None) -> Reference:
    recording = data if path is None else {"bytes": data, "path": path}
    return _check_samples(*load_audio(recording), _name(recording))


def _check_samples(samples: np.ndarray, rate: int, name: str) -> Reference:
    if not has_speech(np.ascontiguousarray(resample(samples, rate, SAMPLING_RATE))):
        raise ValueError(
            f"no speech in speaker_wav {name} ({_describe(samples, rate)}). "
            "Record 10 to 15 s of one person speaking, without music or noise."
        )
    if _clipped_share(samples) > CLIPPED_SHARE:
        raise ValueError(
            f"speaker_wav {name} is clipped: {_clipped_share(samples):.1%} of its samples lie flat "
            "against the peak, and a cloned voice would crackle. Record again, at a lower level or further away."
        )
    return Reference(samples, rate)


def _clipped_share(samples: np.ndarray) -> float:
    """Return the share of samples in runs of three or more that lie within 0.01 % of the waveform's peak."""
    at_peak = np.abs(samples) >= np.abs(samples).max() * 0.9999
    runs = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
    return float(runs.mean()) if runs.size else 0.0


def _read(audio) -> tuple[np.ndarray, int, str]:
    """Return the samples of any kind of input in any layout, their rate in Hz, and a name for messages."""
    name = _name(audio)
    if isinstance(audio, Reference):
        return audio.array, audio.sampling_rate, name
    if isinstance(audio, (str, os.PathLike)):
        return *_decode(_fetch(os.fspath(audio)), name), name
    if isinstance(audio, (bytes, bytearray)):
        return *_decode(bytes(audio), name), name
    if isinstance(audio, dict):
        array = next((audio[key] for key in ("array", "raw") if audio.get(key) is not None), None)
        if array is not None and "sampling_rate" in audio:
            return _to_numpy(array, name), audio["sampling_rate"], name
        if audio.get("bytes"):
            return *_decode(bytes(audio["bytes"]), name), name
        if audio.get("path") is not None:
            return _read(audio["path"])
        raise ValueError(
            f"the audio dict has the keys {sorted(map(str, audio))}; valid is 'array' or 'raw' with 'sampling_rate', "
            "or 'bytes', or 'path'."
        )
    if hasattr(audio, "get_all_samples"):  # torchcodec's AudioDecoder, which datasets >= 4 hands out
        decoded = audio.get_all_samples()
        return decoded.data.numpy(), decoded.sample_rate, name
    return _to_numpy(audio, name), SAMPLING_RATE, name


def _fetch(location: str) -> bytes:
    """Read the bytes behind a path or an http(s) URL."""
    if location.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(location, timeout=URL_TIMEOUT) as response:
                return response.read()
        except OSError as error:
            raise ValueError(
                f"could not download {location}: {error}. Check the address and the connection."
            ) from error
    path = Path(location)
    if path.is_dir():
        raise IsADirectoryError(f"{location} is a folder; give an audio file (wav, flac, ogg, mp3).")
    if not path.exists():
        raise FileNotFoundError(f"there is no audio file {location}; check the path (now in {Path.cwd()}).")
    return path.read_bytes()


def _decode(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode a file's bytes with libsndfile, or with FFmpeg if libsndfile doesn't know the format."""
    if not data:
        raise ValueError(f"{name} is empty (0 bytes); give an audio file (wav, flac, ogg, mp3) with speech in it.")
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        if _is_truncated(data):
            raise ValueError(_truncated(name)) from error
        return _decode_with_ffmpeg(data, name)
    with file:
        announced, rate = file.frames, file.samplerate
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{name} is damaged or truncated ({error}). Copy, download or record it again."
            ) from error
    if len(samples) < announced or _is_truncated(data):
        raise ValueError(_truncated(name))
    return samples, rate


def _decode_with_ffmpeg(data: bytes, name: str) -> tuple[np.ndarray, int]:
    if shutil.which("ffmpeg") is None:
        raise ValueError(
            f"{name} is no audio that libsndfile reads (wav, flac, ogg, mp3, aiff, au). If it is m4a, webm, aac, wma "
            "or video, install FFmpeg (apt-get install ffmpeg, brew install ffmpeg) or convert it to wav."
        )
    try:
        return ffmpeg_read(data, FFMPEG_SAMPLING_RATE), FFMPEG_SAMPLING_RATE
    except ValueError as error:
        raise ValueError(
            f"{name} holds no audio that libsndfile or FFmpeg can read (its first bytes are {data[:8]!r}). "
            "Give a wav, flac, ogg or mp3 file."
        ) from error


def _truncated(name: str) -> str:
    return f"{name} is truncated: it ends before its header says. Copy, download or record it again."


def _is_truncated(data: bytes) -> bool:
    """Return whether a wav, an aiff or an Ogg stream ends before its headers say, which libsndfile ignores."""
    if data[:4] == b"OggS":  # RFC 3533 §6: a page is a header of 27 bytes, a table of lengths, and as much data
        page = data[data.rfind(b"OggS") :]
        return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
    if data[:4] == b"FORM":
        return len(data) < 8 + int.from_bytes(data[4:8], "big")
    if data[:4] != b"RIFF":
        return False
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind == b"data":
            return size < UNKNOWN_WAV_SIZE and position + 8 + size > len(data)
        position += 8 + size + size % 2
    return True


def _to_numpy(array, name: str) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().float().numpy() if array.is_floating_point() else array.cpu().numpy()
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} holds no samples but {array.dtype}; valid audio is a path, an http(s) URL, bytes, an array "
            "of integers or floats, or a dict with 'array' and 'sampling_rate'."
        )
    return array


def _to_mono_float32(samples: np.ndarray, name: str) -> np.ndarray:
    """Average the channels and scale the sample type to float32 in [-1, 1]."""
    if samples.size == 0:
        raise ValueError(f"{name} has no samples; give audio with speech in it.")
    if samples.ndim > 2 or (samples.ndim == 2 and min(samples.shape) > MAX_CHANNELS) or samples.ndim == 0:
        raise ValueError(
            f"{name} has shape {samples.shape}; valid is (samples,), (samples, channels) or (channels, samples)."
        )
    if samples.dtype.kind == "u":  # unsigned PCM is centred on half its range
        half = np.iinfo(samples.dtype).max / 2 + 0.5
        samples = (samples.astype(np.float64) - half) / half
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} has samples that are NaN or infinite; record or convert it again.")
    if samples.ndim == 2:
        samples = samples.mean(axis=int(np.argmin(samples.shape)), dtype=np.float64)
    peak = float(np.abs(samples).max())
    if peak > 8.0:  # codecs overshoot 1.0 by a little; integers kept as floats by thousands
        raise ValueError(
            f"{name} has float samples up to {peak:.0f}; valid is [-1, 1]. "
            "Divide by 32768 if they were 16-bit, or give int16."
        )
    return np.clip(samples, -1.0, 1.0).astype(np.float32)


def _name(audio) -> str:
    """Return the name of an input for a message, without its samples."""
    if isinstance(audio, (str, os.PathLike)):
        return f"'{os.fspath(audio)}'"
    if isinstance(audio, dict) and isinstance(audio.get("path"), str):
        return f"'{audio['path']}'"
    return f"the audio given as {type(audio).__name__}"


def _describe(samples: np.ndarray, rate: int) -> str:
    level = 20 * np.log10(max(float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))), 1e-10))
    return f"{len(samples) / rate:.1f} s, level {level:.0f} dBFS"
