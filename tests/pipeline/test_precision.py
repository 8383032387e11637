"""Linear layers in other precisions give nearly the same, and models of them save as before."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model
from transformers.pytorch_utils import Conv1D

from hfpipe.pipeline import cpu_precision
from hfpipe.pipeline.cpu_int8 import Int8Linear
from hfpipe.pipeline.cpu_precision import (
    ON_CPU,
    PROMPT_ROWS,
    STEP_ROWS,
    MixedLinear,
    available_on_cpu,
    convert_linears,
    fastest_on_cpu,
    precision_in,
    resolve_precision,
    widen_rest,
)

AVAILABLE = available_on_cpu()


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_sixteen_bit_weights_stay_and_what_lies_between_is_float32(precision, tiny_chat):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat)
    tokens = torch.arange(9)[None]
    expected = model(tokens).logits
    widen_rest(convert_linears(model.bfloat16(), precision))
    assert model.lm_head.weight.dtype == model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.model.norm.weight.dtype == torch.float32
    found = model(tokens).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("precision", AVAILABLE)
def test_no_linear_layer_is_left_out(precision):
    """GPT-2's are of a class of their own, which torch's quantisation passes over."""
    model = GPT2Model(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=40)).eval()
    tokens = torch.arange(10)[None]
    before = model(tokens).last_hidden_state
    state = {name: each.clone() for name, each in model.state_dict().items()}
    convert_linears(model, precision)
    left = sum(isinstance(module, nn.Linear | Conv1D) for module in model.modules())
    assert left == (8 if precision == "float32" else 0)
    torch.testing.assert_close(model(tokens).last_hidden_state, before, atol=0.15, rtol=0)
    assert all(torch.equal(each, state[name]) for name, each in model.state_dict().items())


def test_a_converted_model_saves_as_it_was(tiny_chat, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat)
    expected = {name: each.clone() for name, each in model.state_dict().items()}
    convert_linears(model, "int8").save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(each, expected[name]) for name, each in again.state_dict().items())


def test_what_a_device_cannot_do_is_refused():
    assert resolve_precision("float32", "cpu") == "float32" and resolve_precision("auto", "cpu") in ON_CPU
    with pytest.raises(ValueError, match="precision is 'int4'; valid is auto"):
        resolve_precision("int4", "cpu")
    with pytest.raises(ValueError, match="can't be had on this CPU"):
        resolve_precision("float16", "cpu")
    for precision in ("int8", "mixed"):
        with pytest.raises(ValueError, match=f"{precision}' is for the CPU"):
            resolve_precision(precision, "meta")


@pytest.mark.parametrize("turned", [False, True])
def test_mixed_layers_multiply_few_rows_by_int8_and_many_by_bfloat16(turned):
    torch.manual_seed(0)
    layer = Conv1D(5, 64) if turned else nn.Linear(64, 5)
    mixed, int8 = MixedLinear(layer), Int8Linear(layer)
    weight = layer.weight.t() if turned else layer.weight
    for shape in [(1, 64), (2, 1, 64), (3, 64), (2, 2, 64), (0, 64)]:
        x = torch.randn(shape)
        found = mixed(x)
        if x.numel() <= 2 * 64:
            assert torch.equal(found, int8(x))
        else:
            assert found.dtype == torch.float32
            expected = nn.functional.linear(x.bfloat16().float(), weight.bfloat16().float(), layer.bias)
            torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_mixed_layers_share_weights_that_are_bfloat16_already():
    layer = nn.Linear(8, 4).bfloat16()
    assert MixedLinear(layer)._narrow.data_ptr() == layer.weight.data_ptr()


@pytest.mark.parametrize(
    "steps, prompts, chosen",
    [
        ({"float32": 4, "bfloat16": 2, "int8": 1.0, "mixed": 1.05}, {"mixed": 1, "bfloat16": 1}, "mixed"),
        ({"float32": 4, "bfloat16": 2, "int8": 1.0, "mixed": 1.0}, {"mixed": 70, "bfloat16": 70}, "int8"),
        ({"float32": 1, "bfloat16": 2, "int8": 3, "mixed": 3}, {}, "float32"),
        ({"float32": 4, "bfloat16": float("inf"), "int8": float("inf"), "mixed": float("inf")}, {}, "float32"),
    ],
)
def test_the_fastest_precision_is_taken_and_of_nearly_equal_ones_always_the_same(
    steps, prompts, chosen, monkeypatch, caplog
):
    trials = {(name, STEP_ROWS): 1e-3 * each for name, each in steps.items()}
    trials |= {(name, PROMPT_ROWS): 1e-3 * prompts.get(name, 2) for name in ON_CPU}
    monkeypatch.setattr(cpu_precision, "trial_seconds", lambda: trials)
    with caplog.at_level("INFO", logger="hfpipe"):
        assert fastest_on_cpu.__wrapped__() == chosen
    assert f"precision {chosen!r}: a layer takes" in caplog.text


@pytest.mark.parametrize("precision", AVAILABLE)
def test_a_model_tells_in_which_precision_it_computes(precision, tiny_chat):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat, dtype=torch.float32)
    assert precision_in(convert_linears(model, precision)) == precision
