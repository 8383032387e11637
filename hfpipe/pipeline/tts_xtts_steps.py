"""Run the decoding steps of XTTS's GPT-2 on a CPU, in compiled code around int8 linear layers."""

import numpy as np
import torch
from numba import prange

from .cpu_compiled import compiled, run_parallel


class Steps:
    """Runs the GPT-2 blocks on the next position of each row of a batch.

    torch's overhead is about 10 ms per step, for some twenty small operations in each of thirty blocks; fused into a
    few compiled functions, most of it is avoided.

    Args:
        blocks: blocks with `_Norm` and `Int8Linear` layers.
        cache: keys and values, float32 of shape (layers, 2, rows, heads, positions, channels / heads); written to at
            every step.
    """

    def __init__(self, blocks: list, cache: torch.Tensor):
        _, _, rows, heads, _, size = cache.shape
        self.blocks = [
            (block, keys.numpy(), values.numpy()) for block, (keys, values) in zip(blocks, cache, strict=True)
        ]
        channels = heads * size
        self.normed, self.attended, self.residual = np.empty((3, rows, channels), np.float32)
        self.qkv = np.empty((rows, 3 * channels), np.float32)
        self.hidden = torch.empty(rows, 4 * channels)

    def __call__(self, states: torch.Tensor, first: np.ndarray, position: int) -> torch.Tensor:
        """Run the blocks, updating `states` in place, and return them.

        Args:
            states: float32 of shape (rows, channels), at the next position.
            first: for each row, the first position to attend to; positions before it are padding.
            position: the position of the cache to write.
        """
        rows, hidden = states.numpy(), self.hidden.numpy()
        for block, keys, values in self.blocks:
            block.norm_1.write(rows, self.normed)
            block.qkv.multiply(self.normed, self.qkv)
            run_parallel(_attention, self.qkv, keys, values, first, position, self.attended)
            block.attention_output.multiply(self.attended, self.residual)
            rows += self.residual
            block.norm_2.write(rows, self.normed)
            block.mlp_input.multiply(self.normed, hidden)
            torch.ops.aten.gelu_(self.hidden, approximate="tanh")
            block.mlp_output.multiply(hidden, self.residual)
            rows += self.residual
        return states


@compiled()
def normalize(rows, weight, bias, epsilon, outputs):
    """Write the layer norm of rows of shape (rows, channels) to outputs."""
    channels = rows.shape[1]
    for r in range(len(rows)):
        row = rows[r]
        mean = row.sum() / np.float32(channels)
        square = np.float32(0)
        for j in range(channels):
            square += (row[j] - mean) * (row[j] - mean)
        scale = np.float32(1) / np.sqrt(square / np.float32(channels) + epsilon)
        for j in range(channels):
            outputs[r, j] = (row[j] - mean) * scale * weight[j] + bias[j]


@compiled(parallel=True)
def _attention(qkv, keys, values, first, position, attended, parts):
    """Append the keys and values of qkv (rows, 3 × channels) to the cache, and compute the attention output."""
    rows, heads, _, size = keys.shape
    channels = heads * size
    for part in prange(parts):
        weights = np.empty(position + 1, np.float32)
        for task in range(part * rows * heads // parts, (part + 1) * rows * heads // parts):
            r, h = task // heads, task % heads
            own, visible = slice(h * size, (h + 1) * size), slice(first[r], position + 1)
            keys[r, h, position] = qkv[r, channels : 2 * channels][own]
            values[r, h, position] = qkv[r, 2 * channels :][own]
            _attend(qkv[r][own], keys[r, h, visible], values[r, h, visible], weights[visible], attended[r][own])


@compiled()
def _attend(query, keys, values, weights, result):
    """Write the attention of a query (size,) over keys and values (positions, size) to a result (size,)."""
    count, size = keys.shape
    scale = np.float32(1 / np.sqrt(size))
    for t in range(count):
        score = np.float32(0)
        for j in range(size):
            score += query[j] * keys[t, j]
        weights[t] = score * scale
    highest, total = weights.max(), np.float32(0)
    for t in range(count):
        weights[t] = np.exp(weights[t] - highest)
        total += weights[t]
    result[:] = 0
    for t in range(count):
        weight = weights[t] / total
        for j in range(size):
            result[j] += weight * values[t, j]
