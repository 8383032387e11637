"""Put spoken subtitles on one track: each cue begins at its time, and is sped up where it would run into the next."""

import os

import numpy as np
import soundfile

from .pipeline.audio import load_audio
from .pipeline.files import atomic_write

MAX_SPEED = 1.5  # more, and words are lost
FRAME, SEARCH = 0.03, 0.01  # seconds: of a window, and how far from its place it may be taken


def dub(cues: list[dict], folder: str | os.PathLike, track: str | os.PathLike) -> list[dict]:
    """Write the sounds of cues to one WAV, each at its time; one longer than its gap is sped up, at most 1.5 times.

    Speech that is still too long goes on over the beginning of the next cue: nothing is cut off.

    Args:
        cues: rows of the manifest of subtitles, with `start`, `end` and `file`.
        folder: where their files are.
        track: the WAV to write, 16-bit PCM; it appears whole or not at all.

    Returns:
        Each cue, in the order of time, with the `speed` that was needed and by how many seconds it `overran`.
    """
    cues = sorted(cues, key=lambda cue: cue["start"])
    rate = soundfile.info(os.path.join(folder, cues[0]["file"])).samplerate
    placed = []
    with atomic_write(track) as temporary, soundfile.SoundFile(temporary, "w", rate, 1, "PCM_16") as file:
        tail = np.zeros(0, np.float32)  # what has been said, but lies after the last cue's beginning
        written = 0
        for cue, following in zip(cues, [*cues[1:], None], strict=True):
            start = round(cue["start"] * rate)
            tail, written = _write_until(file, tail, written, start)
            sound, _ = load_audio(os.path.join(folder, cue["file"]), rate)
            gap = round(following["start"] * rate) - start if following else len(sound)
            speed = min(max(len(sound) / gap, 1.0), MAX_SPEED) if gap else MAX_SPEED
            sound = stretch(sound, speed, rate) if speed > 1 else sound
            overran = max(0, len(sound) - gap) / rate
            length = max(len(tail), len(sound))
            tail = np.pad(tail, (0, length - len(tail))) + np.pad(sound, (0, length - len(sound)))
            placed.append({**cue, "speed": round(speed, 2), "overran": round(overran, 2)})
        file.write(np.clip(tail, -1, 1))
    return placed


def stretch(samples: np.ndarray, speed: float, rate: int) -> np.ndarray:
    """Speed speech up or slow it down, and keep its pitch.

    Windows are taken at the new pace, each where it continues the last one best, and added with overlap: WSOLA
    (Verhelst & Roelands 1993).

    Args:
        samples: float32 waveform of shape (samples,) at `rate` Hz.
        speed: 2 is twice as fast.

    Returns:
        float32 of shape (samples / speed,).
    """
    hop, reach = round(FRAME * rate / 2), round(SEARCH * rate)
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)  # two, half a window apart, add up to 1
    length = round(len(samples) / speed)
    padded = np.pad(samples, (hop + reach, 4 * hop + 2 * reach))
    output = np.zeros(length + 4 * hop, np.float32)
    place = reach
    for position in range(0, length + hop, hop):
        wanted = round(position * speed)  # the first sample to search, `reach` before the place at the new pace
        if position:
            follows = padded[place + hop : place + 3 * hop]
            near = padded[wanted : wanted + 2 * reach + 2 * hop]
            place = wanted + int(np.correlate(near, follows, "valid").argmax())
        output[position : position + 2 * hop] += window * padded[place : place + 2 * hop]
    return output[hop : hop + length]


def _write_until(file, tail: np.ndarray, written: int, end: int) -> tuple[np.ndarray, int]:
    """Write what has been said, and then silence, up to a sample; return what is left, and how much is written."""
    said = min(len(tail), end - written)
    file.write(np.clip(tail[:said], -1, 1))
    silence = np.zeros(1 << 16, np.float32)
    for first in range(written + said, end, len(silence)):
        file.write(silence[: end - first])
    return tail[said:], end
