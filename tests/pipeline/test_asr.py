"""Short windows hear what the full one hears, and give way to it when they go wrong."""

import logging
import re

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from transformers import AutoModelForSpeechSeq2Seq, pipeline

import hfpipe
from hfpipe.pipeline import asr_whisper as hearing
from hfpipe.pipeline.asr_whisper import decode, decode_with_beams, encode, prepare_whisper, repeats_itself, transcribe
from hfpipe.pipeline.audio import load_question
from hfpipe.pipeline.cpu_precision import available_on_cpu, resolve_precision

SPANISH = {"generate_kwargs": {"task": "transcribe", "language": "es", "num_beams": 1}}
AVAILABLE = available_on_cpu()


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


def test_decoding_is_the_librarys_own(asr, question):
    """Greedy and without timestamps, with each language; the tiny Whisper spells until its limit."""
    for language in ("es", "en"):
        options = {"task": "transcribe", "language": language, "num_beams": 1, "max_new_tokens": 30}
        stock = [asr(audio.copy(), generate_kwargs=options)["text"] for audio in (question, question[:30_000])]
        encoded = encode(asr, [question, question[:30_000]], 30)
        assert decode(asr, encoded, [language] * 2, 30) == (stock, [True, True])
        assert all(len(text) > 20 for text in stock)


def test_a_text_that_runs_on_is_heard_again_in_full(asr, question):
    questions = [question, question[:30_000]]
    in_full, _ = decode_with_beams(asr, encode(asr, questions, 30), ["es", "es"])
    assert transcribe(asr, questions, "es") == [(text, "es") for text in in_full]
    in_short, _ = decode_with_beams(asr, encode(asr, questions, 5), ["es", "es"])
    assert in_short != in_full


@pytest.mark.parametrize("decode", [decode, decode_with_beams])
def test_a_text_that_ends_is_told_from_one_that_runs_on(asr, question, monkeypatch, decode):
    """Nothing but the end is left to say, though not as the first token."""
    config = asr.model.generation_config
    end, letter = config.eos_token_id, asr.tokenizer.convert_tokens_to_ids("a")
    others = [token for token in range(asr.model.config.vocab_size) if token not in (end, letter)]
    monkeypatch.setattr(config, "begin_suppress_tokens", [end])
    monkeypatch.setattr(config, "suppress_tokens", others)
    encoded = encode(asr, [question], 5)
    assert decode(asr, encoded, ["es"], 1) == (["a"], [True])
    ends = torch.tensor([end])
    hook = asr.model.proj_out.register_forward_hook(lambda module, states, logits: logits.index_fill(-1, ends, 9.0))
    try:
        [text], ran_on = decode(asr, encoded, ["es"], 5)
        assert ran_on == [False] and set(text) == {"a"}
    finally:
        hook.remove()


def test_repetition_is_noticed():
    assert repeats_itself("capital " * 40)
    assert not repeats_itself("¿Cuál es la capital de Francia?")


def test_an_unknown_language_is_refused(asr, question):
    with pytest.raises(ValueError, match="doesn't know the language 'it'; it knows en, es, fr"):
        transcribe(asr, [question], "it")


def test_a_question_over_half_a_minute_is_heard_to_its_end(asr, question, monkeypatch):
    monkeypatch.setattr(hearing, "FALLBACK", {})
    long = np.concatenate([question] * 16)
    stock = asr(long.copy(), return_timestamps=True, **SPANISH)["text"]
    assert transcribe(asr, [long, question], "es")[0] == (stock.strip(), "es")


@pytest.mark.slow
def test_what_is_drawn_again_is_the_same_each_time(asr, question):
    """Random weights are unsure of all that they hear; the chances of others are left as they were."""
    heard, chances = [], []
    for _ in range(2):
        torch.manual_seed(7)
        heard.append(transcribe(asr, [np.concatenate([question] * 16)], "es"))
        chances.append(torch.rand(1))
    torch.manual_seed(7)
    assert heard[0] == heard[1] and chances[0] == chances[1] == torch.rand(1)


def test_nothing_is_warned_of_at_each_question(asr, question, caplog):
    logger = logging.getLogger("transformers")
    monkey = logger.propagate
    logger.propagate = True
    try:
        transcribe(asr, [question], "es")
        transcribe(asr, [question], None)
    finally:
        logger.propagate = monkey
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", *AVAILABLE])
def test_a_prepared_whisper_stays_a_whisper(tiny_whisper, question, tmp_path, precision):
    """What it hears is nearly the same; the stock pipeline runs on it, and it saves as it was."""
    asr = pipeline("automatic-speech-recognition", model=str(tiny_whisper), device="cpu")
    expected = {name: tensor.clone() for name, tensor in asr.model.state_dict().items()}
    states = encode(asr, [question], 8).last_hidden_state
    prepare_whisper(asr.model, precision)
    prepare_whisper(asr.model, precision)  # a model that two pipelines share
    left = any(isinstance(module, torch.nn.Linear) for module in asr.model.get_decoder().modules())
    assert left == isinstance(asr.model.proj_out, torch.nn.Linear)
    assert left == (resolve_precision(precision, "cpu") == "float32")
    torch.testing.assert_close(encode(asr, [question], 8).last_hidden_state, states, atol=0.1, rtol=0)
    assert asr(question.copy(), **SPANISH)["text"] and transcribe(asr, [question], "es")[0][0]
    asr.model.save_pretrained(tmp_path)
    again = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path).state_dict()
    assert again.keys() == expected.keys() and all(torch.equal(again[name], expected[name]) for name in expected)


def test_a_whisper_that_hears_english_alone_says_so(asr, question, monkeypatch):
    monkeypatch.setattr(asr.model.generation_config, "is_multilingual", False)
    monkeypatch.delattr(asr.model.generation_config, "lang_to_id")  # Whisper's .en models have none
    monkeypatch.delattr(asr.model.generation_config, "task_to_id")
    assert transcribe(asr, [question], None)[0][1] == "en"


def test_no_word_is_an_error(asr, question, monkeypatch):
    monkeypatch.setattr(hearing, "decode_with_beams", lambda *args: ([""], [False]))
    with pytest.raises(ValueError, match="no word"):
        transcribe(asr, [question], "es")


@pytest.mark.offline
def test_real_speech_in_every_window(question):
    asr = pipeline("automatic-speech-recognition", model=hfpipe.offline_repo(), device="cpu")
    prepare_whisper(asr.model)
    silence = np.zeros(16_000, np.float32)
    for seconds in (0, 3, 5, 10, 15):
        padded = np.concatenate([question, *[silence] * seconds])
        [(text, _)] = transcribe(asr, [padded], "es")
        assert re.findall(r"\w+", text.lower()) == ["cuál", "es", "la", "capital", "de", "francia"]
        assert transcribe(asr, [padded], None)[0][1] == "es"
