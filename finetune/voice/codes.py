"""Turn recordings into XTTS's audio codes, once, and keep them in shards that an interrupted run finds again."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.files import atomic_write
from hfpipe.pipeline.tts_xtts_checkpoint import load_weights

from .xtts import DVAE, MEL_STATS

SAMPLING_RATE = 22_050  # Hz of what XTTS hears (coqui-tts, XttsAudioConfig)
SHARD = 64  # recordings per file
MELS = 80


class Codec(nn.Module):
    """Coqui's mel spectrogram and `DiscreteVAE`, which turn a recording into about 21.5 codes a second.

    Args:
        folder: of the checkpoint, with dvae.pth, and mel_stats.pth if the weights' own aren't meant.
        xtts: coqui's `Xtts`, whose `mel_stats` and number of codes are used.

    Raises:
        ValueError: a file is damaged, holds more than weights, or belongs to another model.
    """

    def __init__(self, folder: Path, xtts):
        from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram
        from TTS.tts.layers.xtts.dvae import DiscreteVAE

        super().__init__()
        self.stride = xtts.args.gpt_code_stride_len
        stats = folder / MEL_STATS
        self.mel_norms = load_weights(stats) if stats.is_file() else xtts.mel_stats
        self.mel = TorchMelSpectrogram(mel_norm_file=None, sampling_rate=SAMPLING_RATE)
        self.mel.mel_norms = self.mel_norms
        # The sizes are those of coqui-tts's GPTTrainer.
        self.dvae = DiscreteVAE(
            channels=MELS,
            positional_dims=1,
            num_tokens=xtts.args.gpt_num_audio_tokens - 2,
            codebook_dim=512,
            hidden_dim=512,
            num_resnet_blocks=3,
            kernel_size=3,
            num_layers=2,
            use_transposed_convs=False,
        )
        try:
            missing, _ = self.dvae.load_state_dict(load_weights(folder / DVAE), strict=False)
        except RuntimeError as error:
            raise ValueError(f"{folder / DVAE} doesn't fit this XTTS ({str(error)[:300]}).") from error
        if missing := [name for name in missing if name.startswith(("encoder.", "codebook."))]:
            raise ValueError(f"{folder / DVAE} lacks {', '.join(missing[:3])}: take it from the same repo.")
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the codes of a waveform, float32 of shape (samples,) at 22,050 Hz: int64 of shape (codes,)."""
        codes = self.dvae.get_codebook_indices(self.mel(waveform[None]))[0]
        return codes[: -(-len(waveform) // self.stride)]


def read_waveform(path: Path) -> torch.Tensor:
    """Decode a recording to float32 of shape (samples,) at 22,050 Hz."""
    return torch.from_numpy(np.ascontiguousarray(load_audio(path, SAMPLING_RATE)[0]))


def compute_codes(paths: list[Path], folder: Path, codec: Codec) -> list[torch.Tensor]:
    """Return the codes of recordings; shards that are in the folder aren't computed again.

    Args:
        folder: for the shards; each appears whole or not at all, and is named after the files in it, their sizes and
            their times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    codes = []
    parts = [paths[start : start + SHARD] for start in range(0, len(paths), SHARD)]
    for part in tqdm(parts, desc="Computing audio codes", unit="shard", leave=False, disable=len(parts) < 2):
        names = [f"{path} {(status := path.stat()).st_size} {status.st_mtime_ns}" for path in part]
        file = folder / f"{hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}.safetensors"
        if not file.exists():
            tensors = {str(i): codec(read_waveform(path)).to(torch.int16) for i, path in enumerate(part)}
            with atomic_write(file) as temporary:
                save_file({name: each.clone() for name, each in tensors.items()}, temporary)
        kept = load_file(file)
        codes += [kept[str(i)].long() for i in range(len(part))]
    return codes
