"""Linear layers in other precisions give nearly the same, and models of them save as before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model
from transformers.pytorch_utils import Conv1D

from hfpipe.precision import ON_CPU, Int8Linear, convert_linears, resolve_precision, trial_seconds, widen_rest

AVAILABLE = [precision for precision in ON_CPU if trial_seconds(precision) is not None]


@given(
    rows=st.integers(0, 5),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_int8_is_near_float32(rows, inputs, outputs, bias, dtype, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(rows, inputs)
    expected = layer(x)
    found = Int8Linear(layer.to(dtype))(x.to(dtype))
    assert found.dtype == dtype and found.shape == expected.shape
    # 7 bits of the input's range and 8 of each weight row's, added over the inputs
    if rows:
        bound = inputs**0.5 * x.abs().max() * layer.weight.abs().max() * 0.05 + 0.02
        assert (found.float() - expected).abs().max() <= bound


@pytest.mark.parametrize("digits", [1, 2])
def test_large_inputs_do_not_overflow(digits):
    """Two products of neighbours are added in 16 bits on a CPU without VNNI."""
    layer = nn.Linear(512, 8, bias=False)
    layer.weight.data.fill_(1.0)
    for value in (3.0, -3.0):
        x = torch.full((1, 512), value)
        assert Int8Linear(layer, digits)(x).flatten().tolist() == pytest.approx([512 * value] * 8, rel=0.02)


@given(rows=st.integers(0, 5), inputs=st.integers(1, 70), bias=st.booleans(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_two_digits_see_small_inputs_beside_a_large_one(rows, inputs, bias, seed):
    """The weights are rounded alike; what the inputs lose is under a ten-thousandth of the largest in their row."""
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, 7, bias=bias)
    scales = layer.weight.abs().amax(dim=1, keepdim=True) / 127
    rounded = (layer.weight / scales).round() * scales
    x = torch.randn(2, rows, inputs)
    x[..., 0] *= 300
    expected = nn.functional.linear(x, rounded, layer.bias)
    found = Int8Linear(layer, digits=2)(x)
    assert found.shape == (2, rows, 7)
    if rows:
        lost = x.abs().amax(dim=-1, keepdim=True) * 1e-4 * rounded.abs().sum(dim=1) + 1e-5
        assert ((found - expected).abs() <= lost).all()
    assert torch.equal(Int8Linear(layer, digits=2)(torch.zeros(1, inputs))[0], layer.bias if bias else torch.zeros(7))


def test_digits_are_taken_over_for_the_same_row_alone():
    """Layers in a row that read the same, another of another width, and one that was changed in place."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, 5) for width in (8, 8, 6, 8)]
    quick = [Int8Linear(layer, digits=2) for layer in layers]
    row = torch.randn(1, 8)
    rows = {8: row, 6: row[:, :6]}
    for _ in range(3):
        for layer, quickened in zip(layers, quick, strict=True):
            inputs = rows[layer.in_features]
            torch.testing.assert_close(quickened(inputs), layer(inputs), atol=0.02 * float(row.abs().max()), rtol=0)
        row *= -3.0
        row[0, 3] = 0.1


def test_sixteen_bit_weights_stay_and_what_lies_between_is_float32(tiny_chat):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat)
    tokens = torch.arange(9)[None]
    expected = model(tokens).logits
    widen_rest(convert_linears(model.bfloat16(), "int8", digits=2))
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
    with pytest.raises(ValueError, match="int8' is for the CPU"):
        resolve_precision("int8", "meta")
