"""Choose the precision in which this machine computes fastest, and convert a model's linear layers to it."""

import collections
import contextlib
import functools
import itertools
import math
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from .cpu_int8 import Int8Linear
from .internals import multiply_bfloat16, pack_bfloat16
from .logs import logger

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8", "mixed")
ON_CPU = ("float32", "bfloat16", "int8", "mixed")
PREFERRED = ("mixed", "int8", "bfloat16", "float32")  # among those that are nearly as fast, the one that reads least
NEARLY = 1.1
TRIALS = 12
TRIAL_SHAPE = (1024, 4096)  # of XTTS's largest layers
STEP_ROWS, PROMPT_ROWS = 1, 64  # of inputs to a layer
FEW_ROWS = 2  # as many as `Int8Linear` widens its weights for as they come
STEPS = 30  # that follow a prompt in a short answer


class BFloat16Linear(nn.Module):
    """A linear layer that multiplies in bfloat16, its weights laid out once as oneDNN likes them.

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters stay, so that the model saves as before, and aren't read.
    """

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        weight = layer.weight.detach().t() if isinstance(layer, Conv1D) else layer.weight.detach()
        self._packed = pack_bfloat16(weight)
        self._packed_bias = None if layer.bias is None else layer.bias.detach().bfloat16()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (..., inputs) to (..., outputs), in the inputs' dtype."""
        return multiply_bfloat16(inputs.bfloat16(), self._packed, self._packed_bias).to(inputs.dtype)


class MixedLinear(Int8Linear):
    """A linear layer that multiplies a row or two by int8 weights, and more by bfloat16 ones.

    A decoding step waits for the weights to come from memory, a prompt for the multiplications, and some CPUs multiply
    in bfloat16 several times as fast. Weights that are in bfloat16 already are multiplied as they are, and so take no
    further memory; others are laid out as oneDNN likes them.

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters stay, so that the model saves as before.
    """

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__(layer)
        weight = layer.weight.detach().t() if isinstance(layer, Conv1D) else layer.weight.detach()
        self._is_packed = weight.dtype != torch.bfloat16
        self._narrow = pack_bfloat16(weight) if self._is_packed else weight
        self._narrow_bias = None if layer.bias is None else layer.bias.detach().bfloat16()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (..., inputs) to (..., outputs), in the inputs' dtype; there is no gradient."""
        if inputs.numel() <= FEW_ROWS * inputs.shape[-1]:
            return super().forward(inputs)
        multiply = multiply_bfloat16 if self._is_packed else F.linear
        return multiply(inputs.detach().bfloat16(), self._narrow, self._narrow_bias).to(inputs.dtype)


LAYERS = {"int8": Int8Linear, "bfloat16": BFloat16Linear, "mixed": MixedLinear}


def choose_precision(precision: str, dtype: torch.dtype | None, device: torch.device | str) -> str | None:
    """Return the precision to compute in, given what a caller asked for, or None for that of the weights as loaded.

    The rule for every part: a `precision` other than "auto" is taken, or refused. With "auto", a `dtype` is taken, and
    so are the weights' own on an accelerator; what is left is a CPU, which computes as it does fastest.

    Args:
        precision: one of `PRECISIONS`.
        dtype: that the weights were asked for in; None is the one that they were saved in.
        device: where the part computes.

    Raises:
        ValueError: no such precision, or not on this device.
    """
    resolved = resolve_precision(precision, device)
    leaves_weights = precision == "auto" and (dtype is not None or torch.device(device).type != "cpu")
    return None if leaves_weights else resolved


def precision_of(dtype: torch.dtype | None, device: torch.device | str) -> str:
    """Return the precision of a dtype if the device computes in it; else, or for None, the fastest there."""
    device, name = torch.device(device), str(dtype).removeprefix("torch.")
    valid = available_on_cpu() if device.type == "cpu" else ("float32", "float16", "bfloat16")
    return name if name in valid else resolve_precision("auto", device)


def warn_of_precision(part: str, precision: str, own: str) -> None:
    """Warn that a part computes in a precision of its own, if another than "auto" was asked for."""
    if precision not in ("auto", own):
        warnings.warn(
            f"{part} computes in {own}, and can't in precision={precision!r}: that goes for the other parts alone.",
            stacklevel=3,
        )


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """Return the precision to compute in on a device: what was asked, or for "auto" what is fastest there.

    Args:
        precision: one of `PRECISIONS`.
        device: a torch device.

    Raises:
        ValueError: no such precision, or not on this device.
    """
    device = torch.device(device)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; valid is {', '.join(PRECISIONS)}.")
    if precision == "auto" and device.type == "cpu":
        return fastest_on_cpu()
    if precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return "bfloat16" if has_bfloat16 else "float16" if device.type == "cuda" else "float32"
    if device.type == "cpu" and precision != "float32" and precision not in available_on_cpu():
        raise ValueError(
            f"precision={precision!r} can't be had on this CPU; valid is {', '.join(available_on_cpu())} or 'auto'."
        )
    if device.type != "cpu" and precision in ("int8", "mixed"):
        raise ValueError(
            f"precision={precision!r} is for the CPU; on {device.type} give 'float16', 'bfloat16' or 'auto'."
        )
    return precision


@functools.cache
def fastest_on_cpu() -> str:
    """Return the precision in which this CPU takes a prompt and the steps after it fastest, measured once."""
    trials = trial_seconds()
    seconds = {each: trials[each, PROMPT_ROWS] + STEPS * trials[each, STEP_ROWS] for each in available_on_cpu()}
    fastest = min(seconds.values())
    chosen = next(each for each in PREFERRED if seconds.get(each, math.inf) <= fastest * NEARLY)
    shown = ", ".join(f"{each} {1e3 * took:.1f} ms" for each, took in sorted(seconds.items(), key=lambda one: one[1]))
    logger.info(
        "precision %r: a layer takes a prompt of %d tokens and %d steps in %s", chosen, PROMPT_ROWS, STEPS, shown
    )
    return chosen


@functools.cache
def fastest_for_prompts() -> str:
    """Return the faster one of float32 and bfloat16 on this CPU for many rows at once."""
    trials = trial_seconds()
    return "bfloat16" if trials["bfloat16", PROMPT_ROWS] < trials["float32", PROMPT_ROWS] else "float32"


def available_on_cpu() -> list[str]:
    """Return the precisions in which this CPU, and this build of torch, can multiply."""
    return [precision for precision in ON_CPU if trial_seconds()[precision, STEP_ROWS] < math.inf]


@functools.cache
def trial_seconds() -> dict[tuple[str, int], float]:
    """Measure a linear layer of `TRIAL_SHAPE` in each precision, on `STEP_ROWS` and `PROMPT_ROWS`, in some 200 ms.

    The precisions take turns, and of each the fewest seconds count: other programs slow a run down for some
    milliseconds, and seldom all runs of one precision alone.

    Returns:
        Seconds by precision and rows; `inf` where it can't run.
    """
    layers: dict[str, nn.Module] = {}
    with torch.inference_mode():
        for precision in ON_CPU:
            layer = nn.Linear(*TRIAL_SHAPE, bias=False)
            with contextlib.suppress(RuntimeError, KeyError):  # the CPU, or this build of torch, lacks it
                converted: nn.Module = layer if precision == "float32" else LAYERS[precision](layer)
                converted(torch.ones(PROMPT_ROWS, TRIAL_SHAPE[0]))
                layers[precision] = converted
        seconds = dict.fromkeys(itertools.product(ON_CPU, (STEP_ROWS, PROMPT_ROWS)), math.inf)
        for _, (precision, rows) in itertools.product(range(TRIALS), seconds):
            if precision in layers:
                took = best_time(layers[precision], torch.ones(rows, TRIAL_SHAPE[0]), repeats=1)
                seconds[precision, rows] = min(seconds[precision, rows], took)
    return seconds


def precision_in(model: nn.Module) -> str:
    """Return the precision in which the linear layers of a model compute, or most of them."""
    kinds = collections.Counter(
        next((name for name, kind in LAYERS.items() if type(module) is kind), None) or str(module.weight.dtype)
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D | BFloat16Linear | Int8Linear)
    )
    return kinds.most_common(1)[0][0].removeprefix("torch.") if kinds else "float32"


def convert_linears(model: nn.Module, precision: str) -> nn.Module:
    """Convert each linear layer of a model, transformers' `Conv1D` included, to a precision, and return the model.

    Args:
        model: on the CPU. It is changed in place; its state dict stays as it was.
        precision: "float32" leaves it as it is.
    """
    if precision == "float32":
        return model
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LAYERS[precision](module))
    return model


def widen_rest(model: nn.Module) -> nn.Module:
    """Let what `convert_linears` left of a 16-bit model compute in float32, and return the model.

    Embeddings stay as they are stored, being large, and what is looked up in them is widened.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda module, inputs, output: output.float())
        elif not isinstance(module, tuple(LAYERS.values())):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return model


def best_time(layer, inputs: torch.Tensor, repeats: int = 5) -> float:
    """Return the fewest seconds that a layer takes for its inputs, after one run that isn't timed."""
    layer(inputs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        layer(inputs)
        times.append(time.perf_counter() - start)
    return min(times)
