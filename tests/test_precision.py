"""Linear layers in other precisions give nearly the same, and models of them save as before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model
from transformers.pytorch_utils import Conv1D

from hfpipe.precision import ON_CPU, Int8Linear, convert_linears, resolve_precision, trial_seconds

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


def test_large_inputs_do_not_overflow():
    """Two products of neighbours are added in 16 bits on a CPU without VNNI."""
    layer = nn.Linear(512, 8, bias=False)
    layer.weight.data.fill_(1.0)
    x = torch.full((1, 512), 3.0)
    assert Int8Linear(layer)(x).flatten().tolist() == pytest.approx([1536.0] * 8, rel=0.02)


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
