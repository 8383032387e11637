"""Store log-mel features on disk, in shards that an interrupted run finds again."""

import functools
import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import WhisperProcessor

from hfpipe.pipeline.files import atomic_write

from .data import Row, load
from .whisper import FRAMES_PER_SECOND, compute_features, window_for

DYNAMIC_RANGE = 2.0  # of Whisper's features, (log10 + 4) / 4, which are clipped 8 decades below the maximum
FLOOR = -1.5  # feature of digital silence: log10 of 1e-10


class FeatureShards:
    """The features of rows, each only as long as its audio: about a tenth of the size of 30 s windows.

    Args:
        folder: where the shards are; each file is named after the audio in it.
        rows: checked rows, with `digest` and `seconds`.
        size: rows per shard.
    """

    def __init__(self, folder: Path, rows: list[Row], size: int):
        self.folder = folder
        self.parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        self.files = {row.digest: str(self._file(part)) for part in self.parts for row in part}

    def write(self, processor: WhisperProcessor) -> None:
        """Compute the shards that aren't on disk yet; each file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [part for part in self.parts if not self._file(part).exists()]
        for part in tqdm(missing, desc="Computing features", unit="shard", leave=False):
            tensors = {}
            for row in part:
                tensors[row.digest] = compute_features(processor, [load(row)], window_for(row.seconds))[0].contiguous()
            with atomic_write(self._file(part)) as temporary:
                save_file(tensors, temporary)

    def __call__(self, row: Row, window: float) -> torch.Tensor:
        """Return a row's features (mels, 100 * window), padded with silence."""
        features = _open(self.files[row.digest]).get_tensor(row.digest)
        frames = round(window * FRAMES_PER_SECOND)
        silence = max(FLOOR, float(features.max()) - DYNAMIC_RANGE)
        return torch.nn.functional.pad(features, (0, max(0, frames - features.shape[-1])), value=silence)[:, :frames]

    def _file(self, part: list[Row]) -> Path:
        name = hashlib.sha256(" ".join(row.digest for row in part).encode()).hexdigest()[:16]
        return self.folder / f"{name}.safetensors"


@functools.cache
def _open(path: str):
    return safe_open(path, "pt")
