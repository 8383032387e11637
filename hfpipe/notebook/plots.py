"""Plot timings and recordings, and format tables, in a notebook; labels are the caller's."""

import io
import os

import numpy as np

from ..pipeline.audio import load_audio

DPI = 80  # keeps the images in a notebook below about 50 kB
SPECTROGRAM_WINDOW = 512  # samples: 21 ms at 24 kHz
QUIETEST = -120  # dB, the darkest color


def plot_times(seconds: dict[str, float]):
    """Return a bar chart of the seconds of each stage, the first on top, as an IPython `Image`."""
    figure = _figure(7, 0.6 + 0.45 * len(seconds))
    axes = figure.subplots()
    bars = axes.barh(list(seconds), list(seconds.values()), color=[f"C{i}" for i in range(len(seconds))])
    axes.bar_label(bars, fmt="%.2f s", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("s")
    return _image(figure)


def plot_voices(voices: dict[str, str | os.PathLike]):
    """Return the waveforms of recordings, side by side, above their spectrograms, as an IPython `Image`."""
    figure = _figure(5 * len(voices), 4.5)
    columns = figure.subplots(2, len(voices), squeeze=False, sharex="col").T
    for (wave, spectrogram), (name, path) in zip(columns, voices.items(), strict=True):
        samples, rate = load_audio(path)
        wave.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
        wave.set_ylim(-1, 1)
        wave.set_title(name)
        with np.errstate(divide="ignore"):  # log of 0 in digital silence
            spectrogram.specgram(samples, NFFT=SPECTROGRAM_WINDOW, Fs=rate, vmin=QUIETEST)
        spectrogram.set_xlabel("s")
        spectrogram.set_ylabel("Hz")
    return _image(figure)


def table(rows: list[dict]):
    """Return a table of rows with the same keys as an IPython `Markdown`; floats have two decimals.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no rows to make a table of; give at least one.")
    aligned = ("--:" if isinstance(value, int | float) else "---" for value in rows[0].values())
    lines = [rows[0], aligned, *(map(_cell, row.values()) for row in rows)]
    return _display().Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _figure(width: float, height: float):
    """Return a figure created without pyplot, so that the notebook's backend isn't changed."""
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
        raise ImportError("IPython isn't installed: pip install 'hfpipe[notebook]'") from error
    return display
