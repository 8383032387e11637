"""Multiply by weights of 8 bits: the inputs stay float32, so nothing but the weights is rounded."""

import threading

import numba
import numpy as np
import torch
from numba import prange
from torch import nn
from transformers.pytorch_utils import Conv1D

TINY = np.finfo(np.float32).tiny
LARGEST = 127  # of the rounded weights, below zero as above it
OUTPUTS = 4  # whose weights are widened together, for two rows of inputs at a time: so many sums fit into registers
# Sums may be added in any order, without which there would be no vectors; what isn't a number stays so.
LOOSE = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
_sharing = threading.Lock()  # not all of numba's kinds of threads can be asked for by two at once


def compiled(**options):
    """Compiles a function when it is first called, and keeps what came out on disk, where that can be written."""

    def decorate(function):
        try:
            return numba.njit(cache=True, **LOOSE, **options)(function)
        except RuntimeError:  # there is no folder to keep it in
            return numba.njit(**LOOSE, **options)(function)

    return decorate


def share(function, *arguments) -> None:
    """Calls a function compiled in parallel with arguments, and with the number of torch's threads to share it by."""
    threads = torch.get_num_threads()
    with _sharing:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        function(*arguments, threads)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and a scale for each output.

    A step of decoding waits for the weights to come from memory, and these are a quarter of float32's. The inputs are
    not rounded, as they are in torch's dynamic quantisation: few of them are much larger than the rest, which a single
    scale would lose (Dettmers et al. 2022, LLM.int8()).

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters stay, so that the model saves as before, and aren't read.
    """

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._rounded, self._scales = round_weights(layer)
        bias = torch.zeros(len(self._scales)) if layer.bias is None else layer.bias.detach().float()
        self._bias = bias.numpy()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps (..., inputs) to (..., outputs), in the inputs' dtype; there is no gradient."""
        rows = inputs.detach().float().reshape(-1, inputs.shape[-1]).contiguous()
        outputs = torch.empty(len(rows), len(self._scales))
        self.multiply(rows.numpy(), outputs.numpy())
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], outputs.shape[-1])

    def multiply(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        """Writes what contiguous float32 rows (rows, inputs) are mapped to into (rows, outputs)."""
        arrays = self._rounded, self._scales, self._bias, rows, outputs
        if torch.get_num_threads() == 1:
            _multiply(*arrays, 0, len(self._scales))
        else:
            share(_multiply_shared, *arrays)


def round_weights(layer: nn.Linear | Conv1D) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a layer's weights to whole multiples of a scale for each output.

    Returns:
        The multiples, int8 (outputs, inputs), and the scales, float32 (outputs,).
    """
    weight, is_turned = layer.weight.detach().float().contiguous(), isinstance(layer, Conv1D)
    scales = np.full(weight.shape[1 if is_turned else 0], TINY, np.float32)
    rounded = torch.empty(weight.shape, dtype=torch.int8)
    _round(weight.numpy(), is_turned, scales, rounded.numpy())
    return (rounded.t().contiguous() if is_turned else rounded).numpy(), scales


@compiled()
def _round(weights, is_turned, scales, rounded):
    """Rounds the rows of weights, or the columns of turned ones, and raises their scales to what fits the largest."""
    rows, columns = weights.shape
    for i in range(rows):
        for j in range(columns):
            k = j if is_turned else i
            scales[k] = max(scales[k], abs(weights[i, j]) / np.float32(LARGEST))
    factors = 1 / scales
    for i in range(rows):
        for j in range(columns):
            rounded[i, j] = np.int8(np.rint(weights[i, j] * (factors[j] if is_turned else factors[i])))


@compiled()
def _multiply(weights, scales, bias, rows, outputs, first, last):
    """Computes the outputs from `first` up to `last`."""
    count, width = rows.shape
    if count == 1:  # it waits for the weights anyhow, so they are widened as they come
        row = rows[0]
        for i in range(first, last):
            total = np.float32(0)
            for j in range(width):
                total += np.float32(weights[i, j]) * row[j]
            outputs[0, i] = total * scales[i] + bias[i]
        return
    if count == 2:
        x, y = rows[0], rows[1]
        for i in range(first, last):
            a = b = np.float32(0)
            for j in range(width):
                weight = np.float32(weights[i, j])
                a += weight * x[j]
                b += weight * y[j]
            outputs[0, i], outputs[1, i] = a * scales[i] + bias[i], b * scales[i] + bias[i]
        return
    wide, sums = np.zeros((OUTPUTS, width), np.float32), np.empty((2, OUTPUTS), np.float32)
    w0, w1, w2, w3 = wide[0], wide[1], wide[2], wide[3]
    for i in range(first, last, OUTPUTS):
        together = min(OUTPUTS, last - i)
        for k in range(together):
            for j in range(width):
                wide[k, j] = np.float32(weights[i + k, j])
        for r in range(0, count, 2):
            x, y = rows[r], rows[min(r + 1, count - 1)]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
            for j in range(width):
                a0 += w0[j] * x[j]
                a1 += w1[j] * x[j]
                a2 += w2[j] * x[j]
                a3 += w3[j] * x[j]
                b0 += w0[j] * y[j]
                b1 += w1[j] * y[j]
                b2 += w2[j] * y[j]
                b3 += w3[j] * y[j]
            sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3] = a0, a1, a2, a3
            sums[1, 0], sums[1, 1], sums[1, 2], sums[1, 3] = b0, b1, b2, b3
            for s in range(min(2, count - r)):
                for k in range(together):
                    outputs[r + s, i + k] = sums[s, k] * scales[i + k] + bias[i + k]


@compiled(parallel=True)
def _multiply_shared(weights, scales, bias, rows, outputs, parts):
    """Computes all outputs, in so many parts at the same time."""
    for part in prange(parts):
        first, last = part * len(scales) // parts, (part + 1) * len(scales) // parts
        _multiply(weights, scales, bias, rows, outputs, first, last)
