"""Read synthesized speech back with Whisper, and count the words that it hears differently."""

import re

try:
    import jiwer
except ImportError as error:
    raise ImportError("jiwer isn't installed: pip install 'hfpipe[lab]'") from error
import numpy as np
from transformers import AutomaticSpeechRecognitionPipeline

from .pipeline.asr_whisper import FULL_WINDOW
from .pipeline.audio import SAMPLING_RATE
from .pipeline.text_locale import base_language
from .pipeline.text_speakable import speakable


def read_back(samples: np.ndarray, asr: AutomaticSpeechRecognitionPipeline, language: str = "es") -> str:
    """Transcribe a float32 waveform of shape (samples,) at 16 kHz with the full 30 s windows of Whisper.

    `transcribe` is faster with its shorter windows but slightly less accurate; here it is the voice that is evaluated.
    """
    is_long = len(samples) > FULL_WINDOW * SAMPLING_RATE
    how = {"task": "transcribe", "language": base_language(language)}
    return asr(samples, return_timestamps=is_long, generate_kwargs=how)["text"].strip()


def word_error_rate(text: str, heard: str, language: str = "es") -> float:
    """Return the word error rate in percent of what was heard; both are read as `speakable` does, in lower case.

    Args:
        text: what was to be said.
        heard: what `read_back` returned.
        language: BCP 47 tag of the text.
    """
    return 100 * jiwer.wer(_words(text, language), _words(heard, language))


def _words(text: str, language: str) -> str:
    return " ".join(re.findall(r"\w+", speakable(text, language).lower()))
