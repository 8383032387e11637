"""A beam search of our own over Whisper's own layers."""

import math
from types import SimpleNamespace

import pytest
import torch
from conftest import EXAMPLES
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from hfpipe.pipeline import asr_beams
from hfpipe.pipeline.asr_beams import BEAMS, Decoder, search
from hfpipe.pipeline.asr_whisper import decode, decode_with_beams, encode, prompt_tokens
from hfpipe.pipeline.audio import load_question
from hfpipe.pipeline.engine_cancel import Cancelled, CancelToken, cancel_scope

WORDS = 20
END, GOOD, SURE, POOR = range(4)


@pytest.fixture(scope="module")
def states(asr):
    return encode(asr, [load_question(EXAMPLES / "pregunta.wav")], 5).last_hidden_state


def keep_all(tokens, scores):
    return scores


def library_log_probabilities(asr, states, texts: list[list[int]]) -> torch.Tensor:
    heard = BaseModelOutput(last_hidden_state=states.expand(len(texts), -1, -1))
    with torch.inference_mode():
        return asr.model(encoder_outputs=heard, decoder_input_ids=torch.tensor(texts)).logits.log_softmax(dim=-1)


def test_the_decoder_is_the_librarys_own_for_each_beam(asr, states):
    prompt = prompt_tokens(asr, "es")
    with torch.inference_mode():
        decoder = Decoder(asr.model, states)
        found = [decoder(torch.tensor([prompt]))]
        for follow, tokens in (([0, 0, 0], [70, 71, 72]), ([2, 0, 2], [80, 81, 82]), ([1, 1], [90, 91])):
            decoder.follow(torch.tensor(follow))
            found.append(decoder(torch.tensor(tokens)[:, None]))
    texts = [
        [prompt],
        [[*prompt, token] for token in (70, 71, 72)],
        [[*prompt, *said] for said in ((72, 80), (70, 81), (72, 82))],
        [[*prompt, 70, 81, token] for token in (90, 91)],
    ]
    for each, beams in zip(found, texts, strict=True):
        torch.testing.assert_close(each, library_log_probabilities(asr, states, beams)[:, -1])


@pytest.mark.parametrize("language", ["es", "en"])
def test_the_search_finds_what_the_librarys_finds(asr, states, language):
    """The tiny Whisper doesn't end, so both return the likeliest beam at the limit."""
    prompt = prompt_tokens(asr, language)
    tokens, is_open = search(asr.model, states, prompt, keep_all, 12)
    [stock] = GenerationMixin.generate(
        asr.model,
        encoder_outputs=BaseModelOutput(last_hidden_state=states.clone()),
        decoder_input_ids=torch.tensor([prompt]),
        suppress_tokens=None,
        begin_suppress_tokens=None,
        max_new_tokens=12,
        num_beams=BEAMS,
        do_sample=False,
    ).tolist()
    assert is_open and tokens == stock[len(prompt) :] and len(tokens) == 12


class Table:
    """Stands for the decoder: what follows depends on the last token alone."""

    ODDS = {
        POOR: {GOOD: 0.4, SURE: 0.35, POOR: 0.25},  # of the prompt's last token
        GOOD: {GOOD: 0.2, SURE: 0.2, POOR: 0.2, END: 0.4},
        SURE: {SURE: 0.05, END: 0.95},
    }

    def __init__(self, model, states):
        pass

    def __call__(self, tokens):
        rows = [self.ODDS.get(token, {}) for token in tokens[:, -1].tolist()]
        return torch.tensor([[math.log(row.get(token, 1e-9)) for token in range(WORDS)] for row in rows])

    def follow(self, beams):
        pass


def tiny_model(limit: int, ends=END):
    return SimpleNamespace(
        config=SimpleNamespace(max_target_positions=limit), generation_config=SimpleNamespace(eos_token_id=ends)
    )


@pytest.mark.parametrize("ends", [END, [END]])
def test_a_likelier_text_is_found_behind_a_less_likely_token(monkeypatch, ends):
    """Greedily it would be GOOD and end."""
    monkeypatch.setattr(asr_beams, "Decoder", Table)
    assert search(tiny_model(20, ends), torch.zeros(1, 1, 1), [POOR], keep_all, None) == ([SURE], False)


def test_what_ends_nowhere_is_the_likeliest_so_far(monkeypatch):
    monkeypatch.setattr(asr_beams, "Decoder", Table)

    def never_end(tokens, scores):
        return scores.index_fill(1, torch.tensor([END, SURE]), -torch.inf)

    assert search(tiny_model(5), torch.zeros(1, 1, 1), [POOR], never_end, None) == ([POOR, GOOD] * 2, True)
    assert search(tiny_model(9), torch.zeros(1, 1, 1), [POOR], never_end, 2) == ([POOR, GOOD], True)


def test_more_beams_are_never_less_likely_than_greedy(asr, states):
    questions = torch.cat([states, states * 0.5])
    heard = BaseModelOutput(last_hidden_state=questions)
    searched, ran_on = decode_with_beams(asr, heard, ["es", "en"], 10)
    greedy, _ = decode(asr, BaseModelOutput(last_hidden_state=questions.clone()), ["es", "en"], 10)
    assert ran_on == [True, True]
    for i, language in enumerate(("es", "en")):
        prompt = prompt_tokens(asr, language)
        scores = []
        for text in (searched[i], greedy[i]):
            tokens = asr.tokenizer(text, add_special_tokens=False)["input_ids"]
            logs = library_log_probabilities(asr, questions[i : i + 1], [[*prompt, *tokens]])[0, len(prompt) - 1 : -1]
            scores.append(logs.gather(1, torch.tensor(tokens)[:, None]).mean())
        assert scores[0] >= scores[1] - 1e-5


def test_a_whisper_on_several_devices_is_decoded_by_the_library(asr, states, monkeypatch):
    monkeypatch.setattr(asr.model, "hf_device_map", {"encoder": 0, "decoder": 1}, raising=False)
    monkeypatch.setattr(asr_beams, "Decoder", None)
    heard = BaseModelOutput(last_hidden_state=states)
    greedy = decode(asr, BaseModelOutput(last_hidden_state=states.clone()), ["es"], 10)
    assert decode_with_beams(asr, heard, ["es"], 10) == greedy


def test_a_search_that_is_cancelled_ends(asr, states):
    token = CancelToken()
    token.cancel()
    with cancel_scope(token), pytest.raises(Cancelled):
        search(asr.model, states, prompt_tokens(asr, "es"), keep_all, None)
