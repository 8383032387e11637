"""Short windows hear what the full one hears, and give way to it when they go wrong."""

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from transformers import pipeline

import hfpipe
from hfpipe import asr as hearing
from hfpipe.asr import encode, transcribe, went_wrong
from hfpipe.audio import load_question

SPANISH = {"generate_kwargs": {"task": "transcribe", "language": "es", "num_beams": 1}}


@pytest.fixture(scope="module")
def asr(tiny_whisper):
    return pipeline("automatic-speech-recognition", model=str(tiny_whisper), device="cpu")


@pytest.fixture(scope="module")
def question():
    return load_question(EXAMPLES / "pregunta.wav")


def test_a_full_window_is_the_librarys_own_encoder(asr, question):
    features = asr.feature_extractor(question, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        expected = asr.model.get_encoder()(features).last_hidden_state
    torch.testing.assert_close(encode(asr, [question], 30).last_hidden_state, expected)


@pytest.mark.parametrize("window", hearing.SHORT_WINDOWS)
def test_a_short_window_is_short_and_leaves_the_model_as_it_was(asr, question, window):
    states = encode(asr, [question, question[:8000]], window).last_hidden_state
    assert states.shape == (2, 50 * window, asr.model.config.d_model)
    assert asr.model.config.max_source_positions == 1500
    assert asr.model.get_encoder().embed_positions.num_embeddings == 1500
    assert asr(question.copy(), **SPANISH)["text"]


def test_a_text_that_runs_on_is_heard_again_in_full(asr, question):
    """The tiny Whisper spells until its limit, so it always ends with what the stock pipeline says."""
    stock = [asr(audio.copy(), **SPANISH)["text"] for audio in (question, question[:30_000])]
    heard = transcribe(asr, [question, question[:30_000]], "es")
    assert heard == [(text, "es") for text in stock]


def test_repetition_is_noticed(asr):
    assert went_wrong("capital " * 40, asr.tokenizer, limit=10_000)
    assert went_wrong("a" * 30, asr.tokenizer, limit=30)
    assert not went_wrong("¿Cuál es la capital de Francia?", asr.tokenizer, limit=60)


def test_a_whisper_that_hears_english_alone_says_so(asr, question, monkeypatch):
    monkeypatch.setattr(asr.model.generation_config, "is_multilingual", False)
    monkeypatch.delattr(asr.model.generation_config, "lang_to_id")  # Whisper's .en models have none
    monkeypatch.delattr(asr.model.generation_config, "task_to_id")
    assert transcribe(asr, [question], None)[0][1] == "en"


def test_no_word_is_an_error(asr, question, monkeypatch):
    monkeypatch.setattr(hearing, "_listen", lambda *args, **options: [""])
    with pytest.raises(ValueError, match="no word"):
        transcribe(asr, [question], "es")


@pytest.mark.offline
def test_real_speech_in_every_window(question):
    asr = pipeline("automatic-speech-recognition", model=hfpipe.offline_repo(), device="cpu")
    silence = np.zeros(16_000, np.float32)
    for seconds in (0, 3, 5, 10, 15):
        padded = np.concatenate([question, *[silence] * seconds])
        assert transcribe(asr, [padded], "es") == [("¿Cuál es la capital de Francia?", "es")]
        assert transcribe(asr, [padded], None)[0][1] == "es"
