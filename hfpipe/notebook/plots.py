"""Draw times and voices, and set out tables, for a notebook; the words on them are the caller's."""

import io
import os

import numpy as np

from ..pipeline.audio import load_audio

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


def table(rows: list[dict]):
    """Sets rows with the same keys out as a table, an IPython `Markdown`; numbers to two decimals, at the right."""
    if not rows:
        raise ValueError("there are no rows to make a table of; give at least one.")
    aligned = ("--:" if isinstance(value, int | float) else "---" for value in rows[0].values())
    lines = [rows[0], aligned, *(map(_cell, row.values()) for row in rows)]
    return _display().Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _figure(width: float, height: float):
    """Makes a figure without pyplot, so that the notebook's own backend stays as it is."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib isn't installed: pip install 'hfpipe[lab]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _image(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return _display().Image(buffer.getvalue())


def _display():
    try:
        from IPython import display
    except ImportError as error:
        raise ImportError("IPython isn't installed: pip install ipython") from error
    return display
