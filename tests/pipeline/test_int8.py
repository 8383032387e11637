"""`Int8Linear` rounds the weights, and nothing else, whether the CPU has VNNI or not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfpipe.pipeline import cpu_int8, cpu_vnni
from hfpipe.pipeline.cpu_int8 import Int8Linear, round_weights
from hfpipe.pipeline.cpu_threads import limit_threads

SIZES = st.integers(1, 40)
WIDTHS = st.integers(1, 2 * cpu_vnni.LANES + 1)


@pytest.fixture(params=[True, False], ids=["vnni", "loops"], scope="module", autouse=True)
def has_vnni(request):
    if request.param and not cpu_vnni.has_vnni():
        pytest.skip("this CPU has no VNNI")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_int8, "has_vnni", lambda: request.param)
        yield


def layer_of(inputs, outputs, bias=True, turned=False, seed=0):
    torch.manual_seed(seed)
    layer = Conv1D(outputs, inputs) if turned else nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer.requires_grad_(False)


@given(rows=st.integers(0, 7), inputs=WIDTHS, outputs=SIZES, bias=st.booleans(), turned=st.booleans(), seed=SIZES)
@settings(deadline=None, max_examples=80)
def test_only_weights_are_rounded(rows, inputs, outputs, bias, turned, seed):
    layer = layer_of(inputs, outputs, bias, turned, seed)
    rounded, scales = round_weights(layer)
    assert rounded.shape == (outputs, inputs) and abs(rounded.astype(int)).max(axis=1).tolist() == [127] * outputs
    exact = rounded.astype(np.float64) * scales[:, None]
    weight = layer.weight.t() if turned else layer.weight
    assert (np.abs(exact - weight.numpy()) <= scales[:, None] * 0.501).all()
    x = torch.randn(2, rows, inputs)
    x[..., 0] *= 300  # an outlier, beside which a shared scale would lose the rest
    expected = x.double().numpy() @ exact.T + (0 if layer.bias is None else layer.bias.numpy())
    for count in (1, 2, 3):
        with limit_threads(count):
            found = Int8Linear(layer)(x)
        assert found.dtype == torch.float32 and found.shape == (2, rows, outputs)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_comes_in_goes_out_in_its_dtype(dtype):
    layer = layer_of(9, 5).to(dtype)
    x = torch.randn(3, 9)
    found = Int8Linear(layer)(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), layer.float()(x), atol=0.1, rtol=0.05)


def test_weights_of_zero_and_inputs_that_are_no_numbers():
    layer = layer_of(6, 4)
    layer.weight[1] = 0
    x = torch.randn(3, 6)
    x[2, 3] = torch.nan
    found = Int8Linear(layer)(x)
    assert found[:2, 1].tolist() == [layer.bias[1]] * 2
    assert torch.isfinite(found[:2]).all() and torch.isnan(found[2]).all()


def test_rows_that_lie_apart_in_memory():
    layer, x = layer_of(8, 3), torch.randn(8, 10).t()
    torch.testing.assert_close(Int8Linear(layer)(x), Int8Linear(layer)(x.contiguous()), atol=0, rtol=0)


def test_a_large_layer_is_shared_between_threads():
    layer, x = layer_of(1024, cpu_vnni.PARALLEL // 1024 + 3), torch.randn(1, 1024)
    rounded, scales = round_weights(layer)
    expected = (x.double().numpy() @ (rounded * scales[:, None].astype(np.float64)).T) + layer.bias.numpy()
    with limit_threads(3):
        np.testing.assert_allclose(Int8Linear(layer)(x).numpy(), expected, rtol=1e-4, atol=1e-3)


def test_several_threads_may_multiply_at_once():
    layer = Int8Linear(layer_of(64, 96))
    inputs = [torch.randn(rows, 64) for rows in (1, 2, 5) * 40]
    expected = [layer(x) for x in inputs]

    def multiply(x):
        with limit_threads(2):
            return layer(x)

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(multiply, inputs), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_layer_keeps_what_it_is_saved_by():
    layer = layer_of(6, 4)
    assert all(torch.equal(a, layer.state_dict()[name]) for name, a in Int8Linear(layer).state_dict().items())
