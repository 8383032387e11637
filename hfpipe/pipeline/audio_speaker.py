"""Compare voices by the speaker embeddings of resemblyzer."""

import functools
import warnings

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from .audio import load_audio, resample

ENCODER_RATE = 16_000  # Hz, the sampling rate of resemblyzer's encoder
WINDOW, HOP, MELS = 400, 160, 40  # samples, samples and bands of its spectrograms
ENCODER_LEVEL = -30.0  # dBFS, the level to which resemblyzer normalizes speech before it is embedded


def similarity(one, other) -> float:
    """Return the cosine similarity of the speaker embeddings of two recordings, at most 1.

    The authors of resemblyzer report a median of 0.89 for two recordings of the same speaker, and of 0.52 for
    recordings of different speakers.

    Args:
        one, other: recordings of speech, in any form that `load_audio` accepts.

    Raises:
        ImportError: resemblyzer isn't installed. Also every exception of `load_audio`.
    """
    return float(embed_speaker([load_audio(one)]) @ embed_speaker([load_audio(other)]))


def embed_speaker(recordings) -> np.ndarray:
    """Return the embedding of a speaker, float32 of shape (256,) with unit norm, from (waveform, rate in Hz) pairs."""
    embeddings = []
    for samples, rate in recordings:
        wave = resample(samples, rate, ENCODER_RATE)
        level = 10 * np.log10(np.mean(wave.astype(np.float64) ** 2) + 1e-12)
        embeddings.append(_embed((wave * 10 ** ((ENCODER_LEVEL - level) / 20)).astype(np.float32)))
    return _unit(np.mean(embeddings, axis=0)).astype(np.float32)


def _embed(wave: np.ndarray) -> np.ndarray:
    """Return what resemblyzer's `embed_utterance` does, within rounding, without librosa.

    Librosa takes seconds to import, and compiles itself for fifteen more when it is used for the first time.
    """
    encoder = _voice_encoder()
    waves, windows = encoder.compute_partial_slices(len(wave), rate=1.3, min_coverage=0.75)
    wave = np.pad(wave, (0, max(0, waves[-1].stop - len(wave))))
    mels = spectrogram(
        wave, window_function(WINDOW), WINDOW, HOP, power=2.0, pad_mode="constant", mel_filters=_mel_filters()
    ).T
    with torch.inference_mode():
        partials = encoder(torch.from_numpy(np.stack([mels[window] for window in windows]).astype(np.float32)))
    return _unit(partials.numpy().mean(axis=0))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@functools.cache
def _mel_filters() -> np.ndarray:
    bins = WINDOW // 2 + 1
    return mel_filter_bank(bins, MELS, 0.0, ENCODER_RATE / 2, ENCODER_RATE, norm="slaney", mel_scale="slaney")


@functools.cache
def _voice_encoder():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # resemblyzer imports deprecated names of scipy and setuptools
            from resemblyzer import VoiceEncoder
    except ImportError as error:
        raise ImportError(
            "comparing voices needs resemblyzer: pip install 'hfpipe[lab]' (or 'hfpipe[offline]')"
        ) from error
    return VoiceEncoder("cpu", verbose=False)
