"""Turn whatever a caller has (path, URL, bytes, array, dict) into float32 mono, and check that it holds speech."""

import functools
import hashlib
import io
import warnings
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
import torch

from .audio_decode import MAX_CHANNELS, check_sampling_rate, decode, join, split
from .audio_source import VALID_AUDIO, encoded_source, name_audio, open_audio, rated_samples
from .audio_vad import has_speech
from .errors import NoSpeech
from .files import atomic_write

SAMPLING_RATE = 16_000  # Hz, what Whisper and silero-vad hear

REFERENCE_MIN_SECONDS = 3.0  # XTTS's authors claim cloning from 3 s (coqui-tts, docs/source/models/xtts.md)
REFERENCE_GOOD_SECONDS = 10.0
CLIPPED_SHARE = 1e-3  # of the samples lying flat against the peak; clean speech has none


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


def load_audio(audio, sampling_rate: int | None = None, *, max_seconds: float = np.inf) -> tuple[np.ndarray, int]:
    """Decode one piece of audio to float32 mono in [-1, 1], at its own rate or resampled to `sampling_rate`.

    It is decoded, mixed and resampled block by block: hours of it need little more memory than the result does.

    Args:
        audio: one of

            - a path, an http(s) URL or a data: URL;
            - the bytes of a file: `bytes`, `bytearray` or `memoryview`;
            - a binary file object or an upload that has one as its `file`: read from its start, or from where it is
              if it can't seek, and left open;
            - an array or tensor of shape (samples,), (samples, channels) or (channels, samples), of integers at full
              scale or floats in [-1, 1], taken to be at 16 kHz;
            - `(sampling_rate, array)` as Gradio has it, or `(array, sampling_rate)`;
            - a dict with `"sampling_rate"` and `"array"` or `"raw"`, or `"path"` or `"bytes"` (a row of
              `datasets.Audio`, decoded or not).
        sampling_rate: Hz to resample to; None keeps the audio's own.
        max_seconds: refuse longer audio, of which no more is decoded.

    Returns:
        The waveform of shape (samples,), and its rate in Hz.

    Raises:
        AudioTooLong: it lasts longer than `max_seconds`.
        FileNotFoundError, ValueError, TypeError: what was got, what is valid, what to do.
    """
    name = name_audio(audio)
    if isinstance(audio, Reference):
        audio = {"array": audio.array, "sampling_rate": audio.sampling_rate}
    source = encoded_source(audio)
    if source is not None and not _has_samples(audio):
        with open_audio(source, name) as file:
            return decode(file, name, sampling_rate, max_seconds)
    samples, rate = _read_samples(audio, name)
    rate = check_sampling_rate(rate, name)
    samples, _ = join(split(_to_frames(samples, name)), rate, sampling_rate, name, max_seconds)
    return samples, rate if sampling_rate is None else sampling_rate


def resample(samples: np.ndarray, sampling_rate: int, target: int) -> np.ndarray:
    """Resample a float32 waveform of shape (samples,) from `sampling_rate` to `target` Hz, within [-1, 1]."""
    if sampling_rate == target:
        return samples
    return np.clip(soxr.resample(samples, sampling_rate, target), -1.0, 1.0).astype(np.float32, copy=False)


def load_recording(audio) -> Recording:
    """Decode a question to 16 kHz; raise what `load_audio` raises."""
    start = perf_counter()
    samples, _ = load_audio(audio, SAMPLING_RATE)
    return Recording(samples, name_audio(audio), perf_counter() - start)


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
    is_list = isinstance(speaker_wav, (list, tuple)) and rated_samples(speaker_wav) is None
    recordings = speaker_wav if is_list else [speaker_wav]
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
    with atomic_write(path) as temporary, open(temporary, "wb") as file:  # Python opens names of any encoding
        soundfile.write(file, samples, sampling_rate, subtype="PCM_16", format="WAV")


def _check_reference(recording) -> Reference:
    if isinstance(recording, Reference):
        return recording
    name, source = name_audio(recording), encoded_source(recording)
    if source is None or isinstance(recording, dict):
        return _check_samples(*load_audio(recording), name)
    with open_audio(source, name) as file:
        return _check_encoded(file.read(), name)


@functools.lru_cache(maxsize=16)  # a voice that answers again isn't listened to again: 0.2 s
def _check_encoded(data: bytes, name: str) -> Reference:
    return _check_samples(*decode(io.BytesIO(data), name), name)


def _check_samples(samples: np.ndarray, rate: int, name: str) -> Reference:
    if not has_speech(np.ascontiguousarray(resample(samples, rate, SAMPLING_RATE))):
        raise ValueError(
            f"no speech in speaker_wav {name} ({_describe(samples, rate)}). "
            "Record 10 to 15 s of one person speaking, without music or noise."
        )
    if clipped_share(samples) > CLIPPED_SHARE:
        raise ValueError(
            f"speaker_wav {name} is clipped: {clipped_share(samples):.1%} of its samples lie flat "
            "against the peak, and a cloned voice would crackle. Record again, at a lower level or further away."
        )
    return Reference(samples, rate)


def clipped_share(samples: np.ndarray) -> float:
    """Return the share of samples in runs of three or more that lie within 0.01 % of the waveform's peak."""
    at_peak = np.abs(samples) >= np.abs(samples).max() * 0.9999
    runs = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
    return float(runs.mean()) if runs.size else 0.0


def _has_samples(audio) -> bool:
    """Return whether a dict has its samples decoded; they come before a path beside them."""
    return (
        isinstance(audio, dict)
        and any(audio.get(key) is not None for key in ("array", "raw"))
        and audio.get("sampling_rate") is not None
    )


def _read_samples(audio, name: str) -> tuple[np.ndarray, float]:
    """Return the samples of an input that isn't encoded, in any layout, and their rate in Hz."""
    if isinstance(audio, dict):
        if not _has_samples(audio):
            raise ValueError(
                f"the audio dict has the keys {sorted(map(str, audio))}; valid is 'array' or 'raw' with "
                "'sampling_rate', or 'bytes', or 'path'."
            )
        array = next(audio[key] for key in ("array", "raw") if audio.get(key) is not None)
        return _to_numpy(array, name), _to_number(audio["sampling_rate"])
    if hasattr(audio, "get_all_samples"):  # torchcodec's AudioDecoder, which datasets >= 4 hands out
        decoded = audio.get_all_samples()
        return decoded.data.numpy(), decoded.sample_rate
    if pair := rated_samples(audio):
        return _to_numpy(pair[0], name), _to_number(pair[1])
    return _to_numpy(audio, name), SAMPLING_RATE


def _to_number(rate):
    """Return the number in an array or tensor without dimensions; what else there is stays as it is."""
    return rate.item() if isinstance(rate, (np.ndarray, torch.Tensor)) and rate.ndim == 0 else rate


def _to_numpy(array, name: str) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().float().numpy() if array.is_floating_point() else array.cpu().numpy()
    try:
        array = np.asarray(array)
    except ValueError as error:  # lists of unequal lengths
        raise TypeError(f"{name} holds no samples ({error}); {VALID_AUDIO}.") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} holds no samples but {array.dtype}; {VALID_AUDIO}.")
    return array


def _to_frames(samples: np.ndarray, name: str) -> np.ndarray:
    """Return samples of any layout as (frames, channels)."""
    if samples.size == 0:
        raise ValueError(f"{name} has no samples; give audio with speech in it.")
    if samples.ndim > 2 or (samples.ndim == 2 and min(samples.shape) > MAX_CHANNELS) or samples.ndim == 0:
        raise ValueError(
            f"{name} has shape {samples.shape}; valid is (samples,), (samples, channels) or (channels, samples)."
        )
    if samples.ndim == 1:
        return samples[:, np.newaxis]
    return samples if samples.shape[1] <= samples.shape[0] else samples.T


def _describe(samples: np.ndarray, rate: int) -> str:
    level = 20 * np.log10(max(float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))), 1e-10))
    return f"{len(samples) / rate:.1f} s, level {level:.0f} dBFS"
