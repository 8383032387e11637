"""The formats of sound in the Realtime API: PCM and G.711, without a header."""

import io

import numpy as np
import soundfile
import soxr

RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}  # Hz
SUBTYPES = {"audio/pcm": "PCM_16", "audio/pcmu": "ULAW", "audio/pcma": "ALAW"}
WIDTHS = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}  # bytes of a sample


def decode(data: bytes, sound_format: str) -> np.ndarray:
    """Return the samples of whole samples' bytes, float32 (samples,), at the format's rate."""
    if not data:
        return np.zeros(0, np.float32)
    raw = _raw(sound_format)
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", channels=1, samplerate=RATES[sound_format], **raw)
    return samples


class Encoder:
    """Encode speech piece by piece.

    Args:
        sound_format: one of `RATES`.
        sampling_rate: Hz of what is encoded, which is resampled to the format's own.
    """

    def __init__(self, sound_format: str, sampling_rate: int):
        self.format, self.sampling_rate = sound_format, sampling_rate
        rate = RATES[sound_format]
        self._resampler = soxr.ResampleStream(sampling_rate, rate, 1) if sampling_rate != rate else None

    def write(self, samples: np.ndarray, is_last: bool = False) -> bytes:
        """Encode a float32 waveform (samples,), and return the bytes that are ready."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=is_last)
        if not len(samples):
            return b""
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1.0, 1.0), RATES[self.format], **_raw(self.format))
        return buffer.getvalue()

    def finish(self) -> bytes:
        """Return the bytes that remain."""
        return self.write(np.zeros(0, np.float32), is_last=True)


def _raw(sound_format: str) -> dict[str, str]:
    endian = "LITTLE" if sound_format == "audio/pcm" else "FILE"
    return {"format": "RAW", "subtype": SUBTYPES[sound_format], "endian": endian}
