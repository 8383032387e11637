"""Weight-only int8 quantization of linear layers on a CPU: the activations stay in float32."""

import numpy as np
import torch
from numba import prange
from torch import nn
from transformers.pytorch_utils import Conv1D

from .cpu_compiled import compiled, run_parallel
from .cpu_vnni import has_vnni, multiply_digits, pad_weights, sum_weights

TINY = np.finfo(np.float32).tiny
LARGEST = 127  # magnitude of a quantized weight; the quantization is symmetric
OUTPUTS = 4  # outputs per tile, for two input rows at a time; this many accumulators fit into the registers


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and one scale per output channel.

    A decoding step is bound by memory bandwidth, and the weights are a quarter of the size of float32's. Unlike in
    torch's dynamic quantization, activations aren't quantized: they have a few outliers, beside which a single scale
    would round the rest to zero (Dettmers et al. 2022, LLM.int8()).

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters are kept for the state dict, but not used for computing.
    """

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._rounded, self._scales = round_weights(layer)
        bias = torch.zeros(len(self._scales)) if layer.bias is None else layer.bias.detach().float()
        self._bias = bias.numpy()
        self._sums = None
        if has_vnni():
            self._rounded = pad_weights(self._rounded)
            self._sums = sum_weights(self._rounded)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features), in the dtype of the inputs and without gradients."""
        rows = inputs.detach().float().reshape(-1, inputs.shape[-1]).contiguous()
        outputs = torch.empty(len(rows), len(self._scales))
        self.multiply(rows.numpy(), outputs.numpy())
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], outputs.shape[-1])

    def multiply(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        """Map contiguous float32 rows of shape (rows, in_features), and write the result to (rows, out_features)."""
        threads = torch.get_num_threads()
        if self._sums is not None:
            multiply_digits(self._rounded, self._scales, self._bias, self._sums, rows, outputs, threads)
            return
        arrays = self._rounded, self._scales, self._bias, rows, outputs
        if threads == 1:
            _multiply(*arrays, 0, len(self._scales))
        else:
            run_parallel(_multiply_shared, *arrays)


def round_weights(layer: nn.Linear | Conv1D) -> tuple[np.ndarray, np.ndarray]:
    """Quantize the weights of a layer symmetrically to int8, with one scale per output channel.

    Returns:
        The quantized weights, int8 of shape (out_features, in_features), and the scales, float32 (out_features,).
    """
    weight, is_transposed = layer.weight.detach().float().contiguous(), isinstance(layer, Conv1D)
    scales = np.full(weight.shape[1 if is_transposed else 0], TINY, np.float32)
    rounded = np.empty(weight.shape, np.int8)  # numpy asks for huge pages, which are read faster; torch doesn't
    _round(weight.numpy(), is_transposed, scales, rounded)
    return np.ascontiguousarray(rounded.T) if is_transposed else rounded, scales


@compiled()
def _round(weights, is_transposed, scales, rounded):
    """Quantize weights (outputs, inputs), or (inputs, outputs) if `is_transposed`; compute the scales in place."""
    rows, columns = weights.shape
    for i in range(rows):
        for j in range(columns):
            k = j if is_transposed else i
            scales[k] = max(scales[k], abs(weights[i, j]) / np.float32(LARGEST))
    factors = 1 / scales
    for i in range(rows):
        for j in range(columns):
            rounded[i, j] = np.int8(np.rint(weights[i, j] * (factors[j] if is_transposed else factors[i])))


@compiled()
def _multiply(weights, scales, bias, rows, outputs, first, last):
    """Compute the outputs from `first` up to `last`."""
    count, width = rows.shape
    if count == 1:  # bound by memory bandwidth, so the weights are converted on the fly
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
    tile_weights, sums = np.zeros((OUTPUTS, width), np.float32), np.empty((2, OUTPUTS), np.float32)
    w0, w1, w2, w3 = tile_weights[0], tile_weights[1], tile_weights[2], tile_weights[3]
    for i in range(first, last, OUTPUTS):
        tile = min(OUTPUTS, last - i)
        for k in range(tile):
            for j in range(width):
                tile_weights[k, j] = np.float32(weights[i + k, j])
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
                for k in range(tile):
                    outputs[r + s, i + k] = sums[s, k] * scales[i + k] + bias[i + k]


@compiled(parallel=True)
def _multiply_shared(weights, scales, bias, rows, outputs, parts):
    """Compute all outputs in parallel, in `parts` parts."""
    for part in prange(parts):
        first, last = part * len(scales) // parts, (part + 1) * len(scales) // parts
        _multiply(weights, scales, bias, rows, outputs, first, last)
