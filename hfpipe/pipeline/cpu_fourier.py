"""Compute long convolutions on a CPU in the frequency domain, which takes fewer multiplications."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from .cpu_precision import best_time

FEWEST_TAPS = 7  # shorter kernels are faster in the time domain
TRIAL = {"channels": 128, "taps": 11, "samples": 2048}  # a layer in the middle of XTTS's vocoder


class FourierConv1d(nn.Module):
    """A length-preserving `Conv1d` computed in the frequency domain.

    It uses the overlap-save method (Oppenheim and Schafer, Discrete-Time Signal Processing, §8.7): the circular
    wrap-around of a block only affects samples that are discarded. The frequencies are shifted by half a DFT bin, so
    that every bin is complex and none needs a special case. A complex product is written as four real ones, so that
    each bin is a single real matrix product. The output differs from `Conv1d` by rounding only, about 1e-6.

    Args:
        conv: a convolution with stride 1, zero padding, one group and an odd kernel size, of any dilation.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        weight = conv.weight.detach().float()
        self.outputs, self.inputs, self.taps = weight.shape
        # Longer blocks would need fewer multiplications, but their larger weights don't pay off on short inputs.
        self.dilation, self.block = conv.dilation[0], (block := 2 * (self.taps + 1))
        self.kept = block - self.taps + 1
        angles = 2 * math.pi / block * (torch.arange(block // 2)[:, None] + 0.5).double() * torch.arange(block)
        waves = (
            torch.stack([angles.cos(), -angles.sin()], dim=1).flatten(0, 1).float()
        )  # (block, block): rows alternate between real and imaginary parts
        real, imaginary = (
            torch.einsum("oik,fk->foi", weight, wave)
            for wave in waves[:, : self.taps].view(-1, 2, self.taps).unbind(1)
        )  # of the complex conjugate, since `Conv1d` is a cross-correlation
        kernel = torch.cat([torch.cat([real, imaginary], 2), torch.cat([-imaginary, real], 2)], 1)
        self.register_buffer("dft", waves)
        self.register_buffer("kernel", kernel)
        self.register_buffer("inverse_dft", (waves[:, : self.kept].t() * 2 / block).contiguous())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach()[None, :, None])

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Map (1, in_channels, samples) to (1, out_channels, samples)."""
        length, dilation = sound.shape[-1], self.dilation
        blocks = -(-length // (dilation * self.kept))
        before, padded = dilation * (self.taps - 1) // 2, dilation * (blocks * self.kept + self.taps - 1)
        sound = F.pad(sound[0], (before, padded - length - before))
        strides = dilation, padded, dilation * self.kept, 1
        parts = sound.as_strided((self.block, self.inputs, blocks, dilation), strides).reshape(self.block, -1)
        spectra = (self.dft @ parts).view(self.block // 2, 2 * self.inputs, -1)
        parts = self.inverse_dft @ torch.bmm(self.kernel, spectra).view(self.block, -1)
        result = parts.view(self.kept, self.outputs, blocks, dilation).permute(1, 2, 0, 3)
        result = result.reshape(1, self.outputs, -1)[..., :length]
        return result if self.bias is None else result + self.bias


def convolve_faster(model: nn.Module) -> nn.Module:
    """Replace the long convolutions of a model by `FourierConv1d` where that is faster on this CPU; return the model.

    Args:
        model: a model on the CPU; modified in place.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv1d) and _is_suited(module) and is_faster():
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, FourierConv1d(module))
    return model


def _is_suited(conv: nn.Conv1d) -> bool:
    taps, keeps_length = conv.kernel_size[0], conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
    is_plain = conv.stride == (1,) and conv.groups == 1 and conv.padding_mode == "zeros" and taps % 2 == 1
    return is_plain and conv.padding == (keeps_length,) and taps >= FEWEST_TAPS


@functools.cache
def is_faster() -> bool:
    """Return whether `FourierConv1d` is faster than `Conv1d` on this CPU, timed once per process in about 30 ms.

    It depends on the CPU, since oneDNN's convolutions and the BLAS library aren't equally well optimized for each.
    """
    channels, taps = TRIAL["channels"], TRIAL["taps"]
    conv = nn.Conv1d(channels, channels, taps, padding=taps // 2)
    sound = torch.ones(1, channels, TRIAL["samples"])
    with torch.inference_mode():
        return best_time(FourierConv1d(conv), sound) < best_time(conv, sound)
