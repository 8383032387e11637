"""Estimate how listeners would rate recordings: the mean opinion score (MOS) that DNSMOS P.835 predicts."""

import functools
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hfpipe.pipeline.cpu_threads import refuse_forked_process, run_onnx

RATE = 16_000  # Hz, of what the model hears
WINDOW = round(9.01 * RATE)  # samples, of its windows
MODEL = "dnsmos_models/sig_bak_ovr.onnx"  # in the package speechmos
# From the model's outputs to the opinion scores of speech, background and overall, as speechmos has them.
POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


class Opinion(NamedTuple):
    """Estimated opinion scores of a recording, from 1, bad, to 5, excellent, as ITU-T P.835 asks for them.

    Attributes:
        speech: of the speech alone: distortion, clipping, a robot's voice.
        background: of what is heard besides: noise, music, other people. Clean recordings have 3 to 4.
        overall: of both together. Recordings of good quality have about 3, and hardly any has over 3.5.
    """

    speech: float
    background: float
    overall: float


def estimate_mos(waveform: np.ndarray) -> Opinion:
    """Estimate the opinion scores of a recording by DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763).

    The model was trained to rank noise suppressors for English telephony, so that it hears noise, distortion and
    artifacts, and neither a wrong accent nor a wrong intonation. As in speechmos, a recording under 9.01 s is repeated
    to that length; a longer one is rated in as many windows as cover it, rather than in one a second, which changes
    the overall score by 0.05 on the average and takes a quarter of the time.

    Args:
        waveform: float32 (samples,) at 16 kHz, in [-1, 1].

    Raises:
        ImportError: speechmos or onnxruntime isn't installed.
        ValueError: the waveform has no samples, or not one dimension.
    """
    if waveform.ndim != 1 or not waveform.size:
        raise ValueError(f"the waveform has shape {waveform.shape}; valid is (samples,), with at least one sample.")
    refuse_forked_process()
    if len(waveform) < WINDOW:
        waveform = np.tile(waveform, -(-WINDOW // len(waveform)))[:WINDOW]
    starts = np.linspace(0, len(waveform) - WINDOW, -(-len(waveform) // WINDOW)).round().astype(int)
    windows = [waveform[np.newaxis, start : start + WINDOW].astype(np.float32, copy=False) for start in starts]
    raw = np.mean([run_onnx(_session(), {"input_1": window})[0][0] for window in windows], axis=0)
    return Opinion(*(float(np.polyval(terms, score)) for terms, score in zip(POLYNOMIALS, raw, strict=True)))


@functools.cache
def _session():
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("estimating the MOS needs onnxruntime: pip install 'hfpipe[finetune]'") from error
    package = importlib.util.find_spec("speechmos")
    if package is None or package.origin is None:
        raise ImportError("estimating the MOS needs speechmos: pip install 'hfpipe[finetune]'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    options.log_severity_level = 3  # errors
    file = Path(package.origin).parent / MODEL
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
