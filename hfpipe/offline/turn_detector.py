"""Decide by what was said, and how, whether somebody who pauses has finished: Smart Turn v3."""

import os

import numpy as np
from transformers import WhisperFeatureExtractor

from ..pipeline.audio import SAMPLING_RATE
from ..pipeline.cpu_threads import limit_threads, refuse_forked_process, run_onnx

WINDOW = 8  # seconds that the model hears: the last ones


class SmartTurn:
    """Estimate whether a turn is complete, from how its last 8 s sound: intonation, fillers and words cut short.

    The model is Smart Turn v3 (https://github.com/pipecat-ai/smart-turn), Whisper tiny's encoder with a head that was
    trained on pauses in 23 languages. It hears no difference between voices, so one serves many callers, in several
    threads at once; each call takes one core.

    Args:
        file: the ONNX model, such as `smart-turn-v3.2-cpu.onnx`; `hfpipe.smart_turn()` fetches it.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnxruntime is missing.
    """

    def __init__(self, file: str | os.PathLike):
        if not os.path.isfile(file):
            raise FileNotFoundError(f"there is no {file}; give the ONNX file of Smart Turn v3, or use smart_turn().")
        self._session = _open_session(file)
        self._features = WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW, sampling_rate=SAMPLING_RATE)

    def __call__(self, audio: np.ndarray) -> float:
        """Return the probability, 0 to 1, that the turn is complete.

        Args:
            audio: the turn so far, float32 (samples,) at 16 kHz, up to a moment (0.2 s) after its last word.
        """
        refuse_forked_process()
        length = WINDOW * SAMPLING_RATE
        heard = np.pad(audio[-length:], (max(0, length - len(audio)), 0))  # the model knows zeros before the speech
        with limit_threads(1):  # the steps are too small to share
            features = self._features(heard, sampling_rate=SAMPLING_RATE, do_normalize=True, return_tensors="np")
        [probability] = run_onnx(self._session, {"input_features": features.input_features})
        return probability.item()


def _open_session(file: str | os.PathLike):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("Smart Turn needs onnxruntime: pip install onnxruntime, or 'hfpipe[offline]'.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns of its own optimisations
    return onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
