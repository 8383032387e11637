"""Run XTTS's language model a position at a time on a CPU, in compiled code around int8 layers."""

import numpy as np
import torch
from numba import prange

from .cpu_int8 import compiled, share


class Steps:
    """Runs GPT-2's blocks on the next position of each row of a batch.

    torch takes about 10 ms a step for some twenty small operations in each of thirty blocks; compiled, they are few.

    Args:
        blocks: with norms and `Int8Linear`s.
        cache: keys and values, float32 (layers, 2, rows, heads, positions, channels / heads), which it writes on.
    """

    def __init__(self, blocks: list, cache: torch.Tensor):
        _, _, rows, heads, _, size = cache.shape
        self.blocks = [
            (block, keys.numpy(), values.numpy()) for block, (keys, values) in zip(blocks, cache, strict=True)
        ]
        channels = heads * size
        self.normed, self.mixed, self.added = np.empty((3, rows, channels), np.float32)
        self.joined = np.empty((rows, 3 * channels), np.float32)
        self.widened = torch.empty(rows, 4 * channels)

    def __call__(self, states: torch.Tensor, first: np.ndarray, position: int) -> torch.Tensor:
        """Runs the blocks on states (rows, channels), in place, and returns them.

        Args:
            states: float32, of the next position.
            first: of each row the first position to look at; what lies before is padding.
            position: where the cache is written.
        """
        rows, widened = states.numpy(), self.widened.numpy()
        for block, keys, values in self.blocks:
            block.norm_1.write(rows, self.normed)
            block.attend.multiply(self.normed, self.joined)
            share(_attend, self.joined, keys, values, first, position, self.mixed)
            block.project.multiply(self.mixed, self.added)
            rows += self.added
            block.norm_2.write(rows, self.normed)
            block.widen.multiply(self.normed, widened)
            torch.ops.aten.gelu_(self.widened, approximate="tanh")
            block.narrow.multiply(widened, self.added)
            rows += self.added
        return states


@compiled()
def normalise(rows, weight, bias, epsilon, outputs):
    """Writes the layer norm of rows (rows, channels) to outputs."""
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
def _attend(joined, keys, values, first, position, mixed, parts):
    """Caches the keys and values of joined (rows, 3 × channels), and mixes the values by what the queries look at."""
    rows, heads, _, size = keys.shape
    channels = heads * size
    for part in prange(parts):
        shares = np.empty(position + 1, np.float32)
        for task in range(part * rows * heads // parts, (part + 1) * rows * heads // parts):
            r, h = task // heads, task % heads
            mine, seen = slice(h * size, (h + 1) * size), slice(first[r], position + 1)
            keys[r, h, position] = joined[r, channels : 2 * channels][mine]
            values[r, h, position] = joined[r, 2 * channels :][mine]
            _look(joined[r][mine], keys[r, h, seen], values[r, h, seen], shares[seen], mixed[r][mine])


@compiled()
def _look(query, keys, values, shares, result):
    """Adds values (positions, size) up to a result (size,), each by the share that its key has of the query."""
    count, size = keys.shape
    scale = np.float32(1 / np.sqrt(size))
    for t in range(count):
        score = np.float32(0)
        for j in range(size):
            score += query[j] * keys[t, j]
        shares[t] = score * scale
    highest, total = shares.max(), np.float32(0)
    for t in range(count):
        shares[t] = np.exp(shares[t] - highest)
        total += shares[t]
    result[:] = 0
    for t in range(count):
        share = shares[t] / total
        for j in range(size):
            result[j] += share * values[t, j]
