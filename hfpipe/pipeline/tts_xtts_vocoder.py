"""Decode XTTS's latents to audio, all at once or incrementally with the same result."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from .cpu_fourier import convolve_faster
from .engine_cancel import add_cancel_hooks

# Receptive field: the frames on either side of an input frame that affect its audio.
REACH = 14


class Vocoder:
    """XTTS's HiFi-GAN vocoder with weight normalization folded into the weights.

    Args:
        decoder: coqui's `HifiDecoder`, on the CPU; it is copied, not modified.
        device: device to run on.
        dtype: dtype of the weights.
    """

    def __init__(self, decoder, device="cpu", dtype=torch.float32):
        self.device, self.dtype = torch.device(device), dtype
        self.generator = _fold_weight_norm(decoder.waveform_decoder).eval().to(device, dtype)
        if self.device.type == "cpu":
            convolve_faster(self.generator.resblocks)
            add_cancel_hooks(self.generator)
        self.hop = decoder.output_hop_length
        # Scale factors of the linear interpolations: from latents to frames, and from the input to the output rate.
        self.scales: tuple[float, ...] = (decoder.ar_mel_length_compression / decoder.output_hop_length,)
        if decoder.output_sample_rate != decoder.input_sample_rate:
            self.scales += (decoder.output_sample_rate / decoder.input_sample_rate,)

    @torch.inference_mode()
    def __call__(self, latents: torch.Tensor, embedding: torch.Tensor, speed: float = 1.0) -> torch.Tensor:
        """Decode latents (steps, channels) with a speaker embedding (1, size, 1) to audio, float32 (samples,)."""
        return Stream(self, embedding, speed).push(latents, is_last=True)

    def frames(self, latents: torch.Tensor, speed: float) -> tuple[torch.Tensor, int]:
        """Interpolate latents (steps, channels) to the frames of the vocoder's input.

        Returns:
            The frames, of shape (1, channels, frames), and how many of them are independent of any later latents.
        """
        frames, known = latents.T[None], latents.shape[0]
        for scale in (1 / max(speed, 0.05), *self.scales):
            if scale != 1 and int(frames.shape[-1] * scale):  # a single latent can't be shortened
                frames = F.interpolate(frames, scale_factor=scale, mode="linear")
                known = max(0, int((known - 0.5) * scale - 0.5))
        return frames, known

    def sound(self, frames: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Decode frames (1, channels, frames) to audio, float32 of shape (samples,), with `hop` samples per frame."""
        embedding = embedding.to(self.device, self.dtype)
        return self.generator(frames.to(self.device, self.dtype), g=embedding).flatten().float()


class Stream:
    """Decodes latents to audio incrementally.

    Args:
        vocoder: the vocoder.
        embedding: the speaker embedding, of shape (1, size, 1).
        speed: speaking rate; 1 is unchanged, 2 twice as fast.
    """

    def __init__(self, vocoder: Vocoder, embedding: torch.Tensor, speed: float = 1.0):
        self.vocoder, self.embedding, self.speed = vocoder, embedding, speed
        self.latents: list[torch.Tensor] = []
        self.sent = 0  # frames
        self.has_ended = False

    @torch.inference_mode()
    def push(self, latents: torch.Tensor, is_last: bool = False) -> torch.Tensor:
        """Append latents (steps, channels), and return the audio that later latents can't change, of shape (samples,).

        After the call with `is_last=True`, every further call returns empty audio.
        """
        if self.has_ended:
            return torch.zeros(0)
        self.has_ended = is_last
        self.latents.append(latents)
        frames, known = self.vocoder.frames(torch.cat(self.latents), self.speed)
        end = frames.shape[-1] if is_last else max(known - REACH, self.sent)
        if end == self.sent:
            return torch.zeros(0)
        first = max(self.sent - REACH, 0)
        sound = self.vocoder.sound(frames[..., first : end + REACH], self.embedding).cpu()
        hop, start = self.vocoder.hop, self.sent
        self.sent = end
        return sound[(start - first) * hop : (end - first) * hop]


def _fold_weight_norm(generator: nn.Module) -> nn.Module:
    """Return a copy of a generator with weight normalization removed, which coqui-tts recomputes at every call."""
    plain = {}  # deepcopy's memo: replacement by id of the module
    for module in generator.modules():
        if is_parametrized(module, "weight"):
            kind = type_before_parametrizations(module)
            sizes = (module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding)
            plain[id(module)] = kind(*sizes, dilation=module.dilation, bias=module.bias is not None)
            state = {"weight": module.weight} | ({} if module.bias is None else {"bias": module.bias})
            plain[id(module)].load_state_dict(state)
    return copy.deepcopy(generator, plain)
