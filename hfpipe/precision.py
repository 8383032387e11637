"""Choose how this machine multiplies fastest, and put a model's linear layers into that form."""

import functools
import time

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
ON_CPU = ("float32", "bfloat16", "int8")
TRIAL_SHAPE = (1024, 4096)  # of XTTS's largest layers
TRIAL_ROWS = (1, 64)  # a decoding step, and a prompt
DIGIT = 63  # the largest digit of 7 bits: as large below zero as above it
SHARES = torch.tensor([[1, 1 / (2 * DIGIT)]])  # of the coarse and of the fine digit
TINY = torch.finfo(torch.float32).tiny
# (inputs, their scale, the digit that zero becomes, weights) -> float32; it rounds the inputs to whole multiples
DIGITS_TIMES_WEIGHTS = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, a scale for each output, whose inputs are quantised as they come.

    One digit of 7 bits for all inputs is fastest, and too coarse where few inputs are much larger than the rest, as in
    language models (Dettmers et al. 2022, LLM.int8()): with it the likeliest token of Gemma 3 270M was float32's in
    76 % of places, and with two digits, scaled row by row, in 98 %. A few rows take about as long with two as with
    one, since what takes the time is to read the weights.

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters stay, so that the model saves as before, and aren't read.
        digits: 1, or 2 for the precision of inputs of 14 bits.
    """

    _last = None  # inputs of a single row, their digits and the digits' scale

    def __init__(self, layer: nn.Linear | Conv1D, digits: int = 1):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._digits = digits
        weight = _weight_of(layer).float()
        scales = (torch.linalg.vector_norm(weight, torch.inf, dim=1) / 127).clamp(min=TINY)
        rounded = (weight / scales[:, None]).round_().to(torch.int8)  # quantize_per_channel takes twice as long
        zeros = torch.zeros(len(scales), dtype=torch.long)
        quantised = torch._make_per_channel_quantized_tensor(rounded, scales.double(), zeros, 0)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack(quantised, bias if digits == 1 else None)
        self._bias = torch.zeros(1) if bias is None else bias
        # Without VNNI the products of two neighbours are added in 16 bits, which 8-bit inputs would overflow.
        self._reduce_range = not torch.cpu.get_capabilities().get("avx512_vnni", False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps (..., inputs) to (..., outputs), in the inputs' dtype."""
        if self._digits == 1:
            outputs = torch.ops.quantized.linear_dynamic(inputs.float(), self._packed, self._reduce_range)
            return outputs.to(inputs.dtype)
        is_row = inputs.shape.numel() == inputs.shape[-1]
        outputs = self._multiply_row(inputs) if is_row else self._multiply_rows(inputs)
        return outputs.to(inputs.dtype).view(*inputs.shape[:-1], outputs.shape[-1])

    def _multiply_row(self, inputs: torch.Tensor) -> torch.Tensor:
        """Multiplies a single row; its digits are taken over where it is the last layer's too, as for q, k and v.

        Each call costs several times what it computes, so there are as few as may be.
        """
        row, last = inputs.float().reshape(1, -1), Int8Linear._last
        if last is None or last[0] is not inputs or not torch.equal(last[1][:1], row):
            scale = max(float(torch.linalg.vector_norm(row, torch.inf)) / DIGIT, TINY)
            rounded = torch.fake_quantize_per_tensor_affine(row, scale, DIGIT + 1, 0, 2 * DIGIT + 1)
            rest = torch.sub(row, rounded).mul_(2 * DIGIT)  # which is at most half of the scale
            last = Int8Linear._last = inputs, torch.cat([row, rest]), scale
        _, digits, scale = last
        return torch.addmm(self._bias, SHARES, DIGITS_TIMES_WEIGHTS(digits, scale, DIGIT + 1, self._packed))

    def _multiply_rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """Multiplies (..., inputs), each row with a scale of its own, to (rows, outputs)."""
        rows = inputs.float().reshape(-1, inputs.shape[-1])
        scales = rows.abs().amax(dim=1, keepdim=True).clamp_(min=TINY).div_(DIGIT)
        scaled = rows / scales
        digits = torch.cat([scaled, (scaled - scaled.round()).mul_(2 * DIGIT)])
        coarse, fine = DIGITS_TIMES_WEIGHTS(digits, 1.0, DIGIT + 1, self._packed).chunk(2)
        return torch.add(coarse, fine, alpha=1 / (2 * DIGIT)).mul_(scales).add_(self._bias)


class BFloat16Linear(nn.Module):
    """A linear layer that multiplies in bfloat16, its weights laid out once as oneDNN likes them.

    Args:
        layer: an `nn.Linear` or a `Conv1D`. Its parameters stay, so that the model saves as before, and aren't read.
    """

    def __init__(self, layer: nn.Linear | Conv1D):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(_weight_of(layer).bfloat16().contiguous())
        self._packed_bias = None if layer.bias is None else layer.bias.detach().bfloat16()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps (..., inputs) to (..., outputs), in the inputs' dtype."""
        narrow = inputs.bfloat16()
        outputs = torch.ops.mkldnn._linear_pointwise(narrow, self._packed, self._packed_bias, "none", [], "")
        return outputs.to(inputs.dtype)


LAYERS = {"int8": Int8Linear, "bfloat16": BFloat16Linear}


def resolve_precision(precision: str, device: torch.device | str) -> str:
    """Says in which precision to compute on a device: what was asked, or for "auto" what is fastest there.

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
    if device.type == "cpu" and precision != "float32" and trial_seconds(precision) is None:
        raise ValueError(
            f"precision={precision!r} can't be had on this CPU; valid is "
            f"{', '.join(name for name in ON_CPU if trial_seconds(name) is not None)} or 'auto'."
        )
    if device.type != "cpu" and precision == "int8":
        raise ValueError(f"precision='int8' is for the CPU; on {device.type} give 'float16', 'bfloat16' or 'auto'.")
    return precision


@functools.cache
def fastest_on_cpu() -> str:
    """Measures, once in a process and for some 50 ms, in which precision this CPU multiplies fastest."""
    seconds = {precision: trial_seconds(precision) for precision in ON_CPU}
    return min((precision for precision in ON_CPU if seconds[precision] is not None), key=seconds.get)


@functools.cache
def trial_seconds(precision: str) -> float | None:
    """Times a linear layer of `TRIAL_SHAPE` in a precision, on one row and on many; None where the CPU can't do it."""
    layer = nn.Linear(*TRIAL_SHAPE, bias=False)
    try:
        layer = layer if precision == "float32" else LAYERS[precision](layer)
        with torch.inference_mode():
            return sum(_best_time(layer, torch.ones(rows, TRIAL_SHAPE[0])) for rows in TRIAL_ROWS)
    except (RuntimeError, KeyError):  # the CPU, or this build of torch, lacks it
        return None


def convert_linears(model: nn.Module, precision: str, digits: int = 1) -> nn.Module:
    """Puts each linear layer of a model, transformers' `Conv1D` included, into a precision; returns the model.

    Args:
        model: on the CPU. It is changed in place; its state dict stays as it was.
        precision: "float32" leaves it as it is.
        digits: of the inputs, for "int8".
    """
    if precision == "float32":
        return model
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D):
            parent, _, child = name.rpartition(".")
            layer = Int8Linear(module, digits) if precision == "int8" else LAYERS[precision](module)
            setattr(model.get_submodule(parent), child, layer)
    return model


def widen_rest(model: nn.Module) -> nn.Module:
    """Has what `convert_linears` left of a 16-bit model compute in float32; returns the model.

    Embeddings stay as they are stored, being large, and what is looked up in them is widened.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda module, inputs, output: output.float())
        elif not isinstance(module, tuple(LAYERS.values())):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
    return model


def _weight_of(layer: nn.Linear | Conv1D) -> torch.Tensor:
    """Gives a layer's weight as (outputs, inputs); a Conv1D keeps it the other way round."""
    return layer.weight.detach().t() if isinstance(layer, Conv1D) else layer.weight.detach()


def _best_time(layer, inputs: torch.Tensor, repeats: int = 5) -> float:
    layer(inputs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        layer(inputs)
        times.append(time.perf_counter() - start)
    return min(times)
