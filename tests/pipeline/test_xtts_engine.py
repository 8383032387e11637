"""XTTS's decoding loop and incremental vocoder produce what coqui-tts produces."""

import functools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from full_disk import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("TTS")

from hfpipe.pipeline import cpu_fourier as fourier
from hfpipe.pipeline import tts_xtts_gpt as xtts_gpt
from hfpipe.pipeline.cpu_precision import resolve_precision
from hfpipe.pipeline.tts_xtts import XTTS
from hfpipe.pipeline.tts_xtts_checkpoint import WEIGHTS, quietly, read_model
from hfpipe.pipeline.tts_xtts_gpt import Decoder, Sampling, sample_tokens
from hfpipe.pipeline.tts_xtts_vocoder import REACH, Stream, Vocoder

GREEDY = Sampling(do_sample=False)
STEPS = 40


@pytest.fixture(scope="module")
def xtts(tiny_xtts):
    return XTTS.from_pretrained(tiny_xtts, precision="float32")


@pytest.fixture(scope="module")
def decoder(xtts):
    return Decoder(xtts.model.gpt)


@pytest.fixture(scope="module", params=["float32", "int8", "mixed"])
def either(xtts, request):
    return Decoder(xtts.model.gpt, request.param)


@pytest.fixture(scope="module", params=["tap by tap", "by blocks"])
def vocoder(xtts, request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fourier, "is_faster", lambda: request.param == "by blocks")
        return Vocoder(xtts.model.hifigan_decoder)


def voice_of(xtts, name):
    tensors = xtts.resolve_voice(speaker=name).tensors
    return tensors["gpt_cond_latent"], tensors["speaker_embedding"]


def tokens_of(xtts, text):
    return torch.tensor(xtts.model.tokenizer.encode(text, lang="es"))


def decode(decoder, texts, latents, sampling=GREEDY, **limits):
    """Return the tokens (rows, steps) and latents (rows, steps, channels)."""
    voices = [decoder.read_voice(each) for each in latents]
    steps = list(decoder.generate(texts, voices, sampling, **{"max_new_tokens": STEPS, **limits}))
    return torch.stack([tokens for _, tokens, _ in steps], 1), torch.stack([states for states, *_ in steps], 1)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["hola", "¿que tal estas, amigo mio? hoy hace buen tiempo."])
def test_greedy_tokens_latents_and_sound_are_coquis(xtts, decoder, vocoder, text):
    latents, embedding = voice_of(xtts, "Ana")
    tokens, states = decode(decoder, [tokens_of(xtts, text)], [latents])
    with quietly():
        options = {"do_sample": False, "repetition_penalty": 10.0, "max_new_tokens": STEPS}
        model = xtts.model
        model.gpt.init_gpt_for_inference(kv_cache=True)
        expected = model.gpt.generate(cond_latents=latents, text_inputs=tokens_of(xtts, text)[None], **options)
        spoken = model.inference(text, "es", latents, embedding, **options)
    assert tokens.tolist() == expected.tolist()
    torch.testing.assert_close(states[0], torch.from_numpy(spoken["gpt_latents"])[0], atol=1e-5, rtol=0)
    sound = vocoder(states[0], embedding)
    torch.testing.assert_close(sound, torch.from_numpy(spoken["wav"]), atol=1e-5, rtol=0)


def test_rows_of_a_batch_are_what_they_are_alone(xtts, either):
    """The rows have different texts and voices; shorter prompts are padded, and the padding is never attended to."""
    texts = [tokens_of(xtts, text) for text in ("hola a todos, amigos", "si", "¿y tu?")]
    latents = [voice_of(xtts, name)[0] for name in ("Ana", "Luis", "Ana")]
    tokens, states = decode(either, texts, latents)
    for row, (text, voice) in enumerate(zip(texts, latents, strict=True)):
        alone = decode(either, [text], [voice])
        assert tokens[row].tolist() == alone[0][0].tolist()
        torch.testing.assert_close(states[row], alone[1][0], atol=1e-5, rtol=0)


def test_a_static_cache_holds_nothing_that_was_not_written(xtts, either, monkeypatch):
    texts, latents = [tokens_of(xtts, "hola"), tokens_of(xtts, "si")], [voice_of(xtts, "Ana")[0]] * 2
    expected = decode(either, texts, latents)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: empty(*shape, **options).fill_(torch.nan))
    torch.testing.assert_close(decode(either, texts, latents)[1], expected[1], atol=1e-5, rtol=0)


def test_what_a_gpu_replays_draws_the_same(xtts, decoder, monkeypatch):
    """Without a GPU, the step that would be captured, with its fixed addresses and lengths, is run directly."""

    def capture(batch, end):
        batch._step(end)
        return SimpleNamespace(replay=functools.partial(batch._step, end))

    replaying = Decoder(xtts.model.gpt)
    monkeypatch.setattr(replaying, "has_graphs", True)
    monkeypatch.setattr(xtts_gpt._Batch, "_capture", capture)
    monkeypatch.setattr(xtts_gpt, "GRAPH_LENGTHS", 16)
    latents = [voice_of(xtts, name)[0] for name in ("Ana", "Luis")]
    for words in (
        ("hola a todos, amigos", "si"),
        ("¿y tu? ¿que dices de todo esto?", "no"),
        ("hola a todos, amigos", "si"),
    ):
        texts = [tokens_of(xtts, text) for text in words]
        expected, found = decode(decoder, texts, latents), decode(replaying, texts, latents)
        assert found[0].tolist() == expected[0].tolist()
        torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
    kept = list(replaying._idle.values())
    assert len(kept) == 2 and all(len(batches) == 1 for batches in kept)  # the first batch was reused for the third
    assert all(len(batch.graphs) > 2 for [batch] in kept) and not decoder._idle


@pytest.mark.slow
def test_rows_stop_on_their_own(xtts, tiny_xtts):
    """The stop token is made likely, so that the rows of a batch sample it at different steps."""
    gpt = XTTS.from_pretrained(tiny_xtts, precision="float32").model.gpt
    gpt.mel_head.bias.data[gpt.stop_audio_token] += 0.6
    decoder, latents = Decoder(gpt), [voice_of(xtts, "Ana")[0]] * 4
    texts = [tokens_of(xtts, text) for text in ("hola a todos", "si", "no se que decir", "ven")]
    torch.manual_seed(0)
    tokens, _ = decode(decoder, texts, latents, Sampling(), max_new_tokens=500)
    stops = [int((row == decoder.stop_audio).nonzero()[0]) for row in tokens]
    assert len(set(stops)) > 1 and tokens.shape[1] == max(stops) + 1
    assert all((row[stop:] == decoder.stop_audio).all() for row, stop in zip(tokens, stops, strict=True))
    held, _ = decode(decoder, texts[:1], latents[:1], Sampling(), min_new_tokens=60, max_new_tokens=60)
    assert held.shape == (1, 60) and decoder.stop_audio not in held


@pytest.mark.slow
@given(data=st.data(), steps=st.integers(1, 40), speed=st.sampled_from([0.7, 1.0, 1.3]))
@settings(deadline=None, max_examples=10)
def test_sound_in_windows_is_the_sound_at_once(xtts, vocoder, data, steps, speed):
    generator = torch.Generator().manual_seed(steps)
    latents = torch.randn(steps, vocoder.generator.conv_pre.in_channels, generator=generator)
    embedding = voice_of(xtts, "Luis")[1]
    cuts = sorted(data.draw(st.sets(st.integers(1, steps), max_size=4)) - {steps})
    stream = Stream(vocoder, embedding, speed)
    pieces = [stream.push(part, is_last=False) for part in latents.tensor_split(cuts)[:-1]]
    pieces.append(stream.push(latents.tensor_split(cuts)[-1], is_last=True))
    torch.testing.assert_close(torch.cat(pieces), vocoder(latents, embedding, speed), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_vocoder_reaches_no_further_than_it_says(xtts, monkeypatch):
    """Changing one frame changes audio within REACH frames of it, and almost that far."""
    monkeypatch.setattr(fourier, "is_faster", lambda: False)  # blocks would spread differences of rounding
    vocoder = Vocoder(xtts.model.hifigan_decoder)
    frames = torch.zeros(1, vocoder.generator.conv_pre.in_channels, 61)
    embedding = voice_of(xtts, "Luis")[1]
    before = vocoder.sound(frames, embedding)
    frames[..., 30] = 100.0
    changed = (vocoder.sound(frames, embedding) != before).nonzero().flatten() // vocoder.hop
    assert 30 - REACH <= changed.min() and changed.max() <= 30 + REACH
    assert changed.max() - 30 >= REACH - 3


@given(
    seed=st.integers(0, 99),
    top_k=st.sampled_from([0, 1, 5, 50]),
    top_p=st.sampled_from([0.1, 0.85, 1.0]),
    penalty=st.sampled_from([1.0, 10.0]),
)
@settings(deadline=None, max_examples=40)
def test_draws_as_transformers_does(seed, top_k, top_p, penalty):
    """Tokens are sampled with about the probabilities that transformers' logits processors leave."""
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    torch.manual_seed(seed)
    logits, said = torch.randn(1, 30) * 3, torch.rand(1, 30) < 0.3
    said[0, 0] = True
    processors = [RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(0.75)]
    processors += [TopKLogitsWarper(top_k)] if top_k else []
    processors += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = LogitsProcessorList(processors)(said.nonzero()[:, 1][None], logits.clone()).softmax(-1)[0]
    sampling = Sampling(top_k=top_k, top_p=top_p, repetition_penalty=penalty)
    drawn = sample_tokens(logits.expand(4000, -1), said.expand(4000, -1), sampling)
    found = torch.bincount(drawn, minlength=30) / 4000
    assert (found[expected == 0] == 0).all()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_steps_give_what_one_pass_over_the_same_tokens_gives(xtts, either):
    """int8 steps run separate code from the prompt, and mixed precision uses other weights for them, too."""
    text, latents = tokens_of(xtts, "hola a todos"), voice_of(xtts, "Ana")[0]
    tokens, states = decode(either, [text], [latents], Sampling(), min_new_tokens=STEPS)
    said = either.audio[tokens[0, :-1]] + either.audio_positions[1:STEPS]
    prompt = torch.cat([latents[0], either._embed_text(text), said])[None]
    with torch.inference_mode():
        at_once = either.final_norm(either.forward(prompt, either.new_cache(1, prompt.shape[1]), 0)[:, -STEPS:])
    torch.testing.assert_close(states, at_once, atol=2e-3 if either.precision == "mixed" else 1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_int8_stays_near_float32(precision, xtts, decoder):
    """The prompt is the same for both, so their first states are close."""
    narrow = Decoder(xtts.model.gpt, resolve_precision(precision, "cpu"))
    texts, latents = [tokens_of(xtts, "hola a todos")], [voice_of(xtts, "Ana")[0]]
    _, states = decode(decoder, texts, latents, max_new_tokens=1)
    _, near = decode(narrow, texts, latents, max_new_tokens=1)
    assert torch.cosine_similarity(states[0], near[0]).min() > 0.99


@pytest.mark.slow
def test_a_stream_is_the_call_in_pieces(xtts):
    text = "Hola a todos. " * 20  # more than one chunk of text
    for options in ({}, {"speed": 1.5, "speaker": "Luis"}):
        torch.manual_seed(0)
        whole = xtts(text, max_new_tokens=30, **options)
        torch.manual_seed(0)
        pieces = list(xtts.stream(text, max_new_tokens=30, **options))
        assert len(pieces) > 3 and all(piece.dtype == np.float32 for piece in pieces)
        np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


@pytest.mark.slow
def test_a_stream_that_is_left_or_fails_leaves_no_thread(xtts, monkeypatch):
    before = threading.active_count()
    stream = xtts.stream("Hola a todos.")
    next(stream)
    stream.close()
    assert threading.active_count() == before

    def fail(*args):
        raise RuntimeError("on purpose")

    monkeypatch.setattr(xtts._decoder, "final_norm", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        list(xtts.stream("Hola a todos."))
    assert threading.active_count() == before


@pytest.mark.slow
def test_two_voices_at_once_are_each_alone(xtts):
    options = {"do_sample": False, "max_new_tokens": STEPS}
    mine, base = xtts.compare("Hola a todos.", "es", speaker="Luis", **options)
    np.testing.assert_allclose(mine, xtts("Hola a todos.", speaker="Luis", **options), atol=1e-5)
    np.testing.assert_allclose(base, xtts("Hola a todos.", **options), atol=1e-5)


@pytest.mark.slow
def test_texts_at_once_are_each_alone(xtts):
    """Texts of one and of two pieces, in two voices."""
    texts, options = ["Hola a todos. " * 20, "¿Y tú?", "No sé qué decir."], {"do_sample": False, "max_new_tokens": 20}
    voices = [xtts.resolve_voice(speaker=name) for name in ("Ana", "Luis", "Ana")]
    at_once = xtts.speak_batch(texts, "es", voices, **options)
    for sound, text, voice in zip(at_once, texts, voices, strict=True):
        np.testing.assert_allclose(sound, xtts(text, voice=voice, **options), atol=1e-5)


@pytest.mark.slow
def test_the_first_load_writes_safetensors_for_the_next(tiny_xtts, tmp_path):
    for file in tiny_xtts.iterdir():
        if file.name != WEIGHTS:
            (tmp_path / file.name).symlink_to(file)
    first = XTTS.from_pretrained(tmp_path, precision="float32")
    assert (tmp_path / WEIGHTS).is_file() and not list(tmp_path.glob(".*partial*"))
    second = XTTS.from_pretrained(tmp_path, precision="float32")
    np.testing.assert_array_equal(spoken(second), spoken(first))
    state = second.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())


def test_weights_that_a_full_disk_cannot_hold_are_read_from_the_pickle(tiny_xtts, tmp_path):
    for file in tiny_xtts.iterdir():
        if file.name != WEIGHTS:
            (tmp_path / file.name).symlink_to(file)
    before = sorted(file.name for file in tmp_path.iterdir())
    with full_disk():
        assert len(read_model(tmp_path).state_dict()) > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def spoken(xtts):
    torch.manual_seed(0)
    return xtts("Hola.", max_new_tokens=8)
