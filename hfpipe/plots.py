"""Draw times and voices as pictures for a notebook; the words on them are the caller's."""

import io
import os

import numpy as np

from .audio import load_audio

DPI = 80  # keeps a notebook's pictures under some 50 kB
SPECTROGRAM_WINDOW = 512  # samples: 21 ms at 24 kHz
QUIETEST = -120  # dB, the darkest colour


def plot_times(seconds: dict[str, float]):
    """Draws a bar for each stage's seconds, the first on top, and gives it as an IPython `Image`."""
    figure = _figure(7, 0.6 + 0.45 * len(seconds))
    axes = figure.subplots()
    bars = axes.barh(list(seconds), list(seconds.values()), color=[f"C{i}" for i in range(len(seconds))])
    axes.bar_label(bars, fmt="%.2f s", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("s")
    return _image(figure)


def plot_voices(voices: dict[str, str | os.PathLike]):
    """Draws the waveform and under it the spectrogram of each recording, side by side, as an IPython `Image`."""
    figure = _figure(5 * len(voices), 4.5)
    columns = figure.subplots(2, len(voices), squeeze=False, sharex="col").T
    for (wave, spectrogram), (name, path) in zip(columns, voices.items(), strict=True):
        samples, rate = load_audio(path)
        wave.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
        wave.set_ylim(-1, 1)
        wave.set_title(name)
        with np.errstate(divide="ignore"):  # the decibels of silence
            spectrogram.specgram(samples, NFFT=SPECTROGRAM_WINDOW, Fs=rate, vmin=QUIETEST)
        spectrogram.set_xlabel("s")
        spectrogram.set_ylabel("Hz")
    return _image(figure)


def _figure(width: float, height: float):
    """Makes a figure without pyplot, so that the notebook's own backend stays as it is."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib isn't installed: pip install 'hfpipe[notebook]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _image(figure):
    try:
        from IPython.display import Image
    except ImportError as error:
        raise ImportError("IPython isn't installed: pip install 'hfpipe[notebook]'") from error
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Image(buffer.getvalue())
