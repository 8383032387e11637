"""Keep log-mel features on the disk, in shards that a killed run finds again."""

import functools
import hashlib
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import WhisperProcessor

from .data import Row, load
from .whisper import FRAMES_PER_SECOND, features_of, window_for

DYNAMIC_RANGE = 2.0  # of Whisper's features, which are (log10 + 4) / 4 and reach 8 decades under the loudest
FLOOR = -1.5  # the feature of digital silence, 1e-10


class Shards:
    """The features of rows, each no longer than its audio needs, so a tenth of what windows of 30 s would take.

    Args:
        folder: where the shards lie, each named by the audio that it holds.
        rows: whose `digest` and `seconds` are known.
        size: rows in a shard.
    """

    def __init__(self, folder: Path, rows: list[Row], size: int):
        self.folder = folder
        self.parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        self.files = {row.digest: str(self._file(part)) for part in self.parts for row in part}

    def write(self, processor: WhisperProcessor) -> None:
        """Makes the shards that aren't on the disk yet; each appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [part for part in self.parts if not self._file(part).exists()]
        for part in tqdm(missing, desc="Making features", unit="shard", leave=False):
            tensors = {}
            for row in part:
                tensors[row.digest] = features_of(processor, [load(row)], window_for(row.seconds))[0].contiguous()
            partial = self.folder / f".{os.getpid()}.partial"
            save_file(tensors, partial)
            os.replace(partial, self._file(part))

    def __call__(self, row: Row, window: float) -> torch.Tensor:
        """Gives a row's features (mels, 100 * window), silent after its audio."""
        found = _open(self.files[row.digest]).get_tensor(row.digest)
        frames = round(window * FRAMES_PER_SECOND)
        silence = max(FLOOR, float(found.max()) - DYNAMIC_RANGE)
        return torch.nn.functional.pad(found, (0, max(0, frames - found.shape[-1])), value=silence)[:, :frames]

    def _file(self, part: list[Row]) -> Path:
        name = hashlib.sha256(" ".join(row.digest for row in part).encode()).hexdigest()[:16]
        return self.folder / f"{name}.safetensors"


@functools.cache
def _open(path: str):
    return safe_open(path, "pt")
