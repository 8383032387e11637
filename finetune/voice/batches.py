"""Schedule the clips of each training step, and turn them into batches."""

import dataclasses
import random
from collections import defaultdict
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..collate import Sample, schedule_samples
from .codes import MELS, SAMPLING_RATE, read_waveform

REFERENCE_SAMPLES = (66_150, 132_300)  # 3 to 6 s (coqui-tts, GPTArgs.min_ and max_conditioning_length)


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A recording as a training needs it.

    Attributes:
        sentence: the text as the table has it.
        text: its token ids, int64 of shape (tokens,).
        codes: the audio codes of the recording, int64 of shape (codes,).
    """

    audio: Path
    sentence: str
    text: torch.Tensor
    codes: torch.Tensor
    seconds: float
    speaker: str | None = None
    country: str | None = None


class ClipDataset(Dataset):
    """Clips in the order of a schedule; each item is a clip, the clip to hear its voice from, and a seed.

    The voice is heard from another clip of the speaker, as it is when a text is spoken: a model that hears the clip
    itself learns to copy from it. A speaker's only clip, and one whose speaker isn't known, is its own reference.
    """

    def __init__(self, clips: list[Clip], samples: list[Sample]):
        self.clips = clips
        self.samples = samples
        self.by_speaker = defaultdict(list)
        for index, clip in enumerate(clips):
            if clip.speaker is not None:
                self.by_speaker[clip.speaker].append(index)

    @classmethod
    def for_training(cls, clips: list[Clip], rows_per_step: int, steps: int, seed: int) -> "ClipDataset":
        """Return the clips of a whole training, each step with clips of similar length."""
        seconds = [clip.seconds for clip in clips]
        return cls(clips, list(schedule_samples(seconds, rows_per_step, steps, seed, full_windows=0)))

    @classmethod
    def for_evaluation(cls, clips: list[Clip]) -> "ClipDataset":
        """Return the clips once, the shortest first, with references that are the same each time."""
        order = sorted(range(len(clips)), key=lambda index: clips[index].seconds)
        return cls(clips, [Sample(index, 0.0, seed=index) for index in order])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Clip, Clip, int]:
        sample = self.samples[i]
        clip = self.clips[sample.index]
        others = [index for index in self.by_speaker[clip.speaker] if index != sample.index] if clip.speaker else []
        reference = self.clips[random.Random(sample.seed).choice(others)] if others else clip
        return clip, reference, sample.seed


class VoiceCollator:
    """Turn items of `ClipDataset` into the arguments of `VoiceModel.forward`.

    Args:
        mel_norms: divide the mel spectrograms of the references, of shape (80,).
    """

    def __init__(self, mel_norms: torch.Tensor):
        from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram

        # As GPTTrainer of coqui-tts has it for XTTS v2, and `wav_to_mel_cloning` when it speaks.
        self.mel = TorchMelSpectrogram(
            filter_length=2048,
            hop_length=256,
            win_length=1024,
            sampling_rate=SAMPLING_RATE,
            mel_fmin=0,
            mel_fmax=8000,
            n_mel_channels=MELS,
            mel_norm_file=None,
        )
        self.mel.mel_norms = mel_norms

    @torch.no_grad()
    def __call__(self, items: list[tuple[Clip, Clip, int]]) -> dict[str, torch.Tensor]:
        """Return `text`, `text_lengths`, `codes`, `code_lengths` and `references`."""
        clips = [clip for clip, _, _ in items]
        slices = [
            cut_reference(read_waveform(reference.audio), reference is clip, seed) for clip, reference, seed in items
        ]
        return {
            "text": pad_sequence([clip.text for clip in clips], batch_first=True),
            "text_lengths": torch.tensor([len(clip.text) for clip in clips]),
            "codes": pad_sequence([clip.codes for clip in clips], batch_first=True),
            "code_lengths": torch.tensor([len(clip.codes) for clip in clips]),
            "references": self.mel(torch.stack(slices))[:, None],
        }


def cut_reference(waveform: torch.Tensor, is_same_clip: bool, seed: int) -> torch.Tensor:
    """Cut 3 to 6 s at a random place, padded with silence to 6 s as coqui's trainer does.

    A recording that is too short for it is taken whole; of the clip that is to be spoken itself, half, as coqui does.
    """
    rng = random.Random(seed)
    least, most = REFERENCE_SAMPLES
    length = rng.randint(least, most)
    if length > len(waveform):
        length = len(waveform) // 2 if is_same_clip else len(waveform)
    start = rng.randint(0, len(waveform) - length)
    return torch.nn.functional.pad(waveform[start : start + length], (0, most - length))
