"""`FourierConv1d` computes what `Conv1d` computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hfpipe.pipeline import cpu_fourier as fourier
from hfpipe.pipeline.cpu_fourier import FourierConv1d, convolve_faster


@given(
    inputs=st.integers(1, 6),
    outputs=st.integers(1, 6),
    taps=st.integers(3, 8).map(lambda half: 2 * half + 1),
    dilation=st.integers(1, 5),
    length=st.integers(1, 200),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_it_is_the_convolution(inputs, outputs, taps, dilation, length, bias, seed):
    torch.manual_seed(seed)
    conv = nn.Conv1d(inputs, outputs, taps, dilation=dilation, padding=dilation * (taps - 1) // 2, bias=bias)
    sound = torch.randn(1, inputs, length)
    with torch.inference_mode():
        torch.testing.assert_close(FourierConv1d(conv)(sound), conv(sound), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("faster", [True, False])
def test_only_what_it_can_do_is_exchanged(monkeypatch, faster):
    monkeypatch.setattr(fourier, "is_faster", lambda: faster)
    suited = nn.Conv1d(4, 4, 7, padding=3)
    others = [
        nn.Conv1d(4, 4, 3, padding=1),
        nn.Conv1d(4, 4, 7),
        nn.Conv1d(4, 4, 7, padding=3, stride=2),
        nn.Conv1d(4, 4, 7, padding=3, groups=2),
        nn.Conv1d(4, 4, 8, padding=3),
        nn.Conv1d(4, 4, 7, padding=3, padding_mode="reflect"),
        nn.ConvTranspose1d(4, 4, 7, padding=3),
    ]
    model = nn.Sequential(suited, *others)
    sound = torch.randn(1, 4, 50)
    with torch.inference_mode():
        expected = model(sound)
        found = convolve_faster(model)(sound)
    assert isinstance(model[0], FourierConv1d) == faster and list(model[1:]) == others
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_which_is_faster_is_measured():
    assert fourier.is_faster() in (True, False)
