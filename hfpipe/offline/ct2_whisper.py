"""Convert a CTranslate2 Whisper to a state dict of transformers' `WhisperForConditionalGeneration`."""

import math
import struct

import numpy as np
import torch

# CTranslate2's binary format, version 6, as in its src/models/model.cc and python/ctranslate2/specs/model_spec.py.
VERSION = 6
SPEC = "WhisperSpec"
DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
FLOATS = ("float32", "float16")

ENCODER = {
    "conv1": "conv1",
    "conv2": "conv2",
    "layer_norm": "layer_norm",
}
LAYER = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
STACKED = {  # fused projections, concatenated along the rows
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
SETTINGS = {  # scalars that transformers keeps in the config or fixes in the architecture
    "activation",
    "alibi",
    "alignment_heads",
    "alignment_layer",
    "num_heads",
    "pre_norm",
    "scale_embeddings",
    "start_from_zero_embedding",
}


def read_variables(data: bytes) -> dict[str, np.ndarray]:
    """Parse the bytes of a CTranslate2 `model.bin`, and return its arrays by name, including aliases.

    Raises:
        ValueError: the file is truncated, has trailing bytes, isn't version 6, or isn't a Whisper.
    """
    reader = _Reader(data)
    version = reader.number("I")
    if version != VERSION:
        raise ValueError(f"not a CTranslate2 model of version {VERSION}: its first number is {version}. {_ADVICE}")
    spec = reader.string()
    if spec != SPEC:
        raise ValueError(f"the CTranslate2 model is a {spec!r}; valid is {SPEC!r}. {_ADVICE}")
    reader.number("I")  # revision of the spec
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind, size = reader.number("B"), reader.number("I")
        if kind not in DTYPES:
            raise ValueError(f"{name!r} has the dtype number {kind}; valid are {sorted(DTYPES)}. {_ADVICE}")
        dtype = np.dtype(DTYPES[kind])
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name!r} says {size} bytes for shape {shape} of {dtype}: damaged. {_ADVICE}")
        variables[name] = np.frombuffer(reader.take(size), dtype).reshape(shape)
    for _ in range(reader.number("I")):
        alias, name = reader.string(), reader.string()
        if name not in variables:
            raise ValueError(f"{alias!r} is another name for {name!r}, which the file lacks: damaged. {_ADVICE}")
        variables[alias] = variables[name]
    reader.finish()
    return variables


def whisper_state_dict(data: bytes) -> dict[str, torch.Tensor]:
    """Convert the bytes of a CTranslate2 Whisper `model.bin` to a float32 state dict for transformers.

    The state dict has all keys of `WhisperForConditionalGeneration`, so it can be loaded with `strict=True`;
    `proj_out.weight` is the token embedding, to which it is tied. The zero bias that CTranslate2 stores for key
    projections is dropped, since Whisper has none.

    Raises:
        ValueError: the file is invalid (see `read_variables`), quantized, or has variables that aren't Whisper's.
    """
    state = {}
    for name, array in read_variables(data).items():
        side, _, rest = name.partition("/")
        if rest.rpartition("/")[2] in SETTINGS:
            continue
        if array.dtype.name not in FLOATS:
            raise ValueError(f"{name!r} is quantized to {array.dtype}; valid is {' or '.join(FLOATS)}. {_ADVICE}")
        state.update(_rename(side, rest, torch.from_numpy(array.astype(np.float32))))
    return state


_ADVICE = "Download or copy it again, or give the float16 model.bin of a Whisper."


def _rename(side: str, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parameters that a variable of the encoder or decoder contains, by their name in transformers."""
    whole = {
        "embeddings/weight": {"model.decoder.embed_tokens.weight": tensor},
        "position_encodings/encodings": {f"model.{side}.embed_positions.weight": tensor},
        "projection/weight": {"proj_out.weight": tensor},
    }
    if name in whole:
        return whole[name]
    module, _, parameter = name.rpartition("/")
    layer, _, part = module.partition("/")
    if parameter in PARAMETERS and side in ("encoder", "decoder"):
        parameter = PARAMETERS[parameter]
        if module in ENCODER:
            return {f"model.{side}.{ENCODER[module]}.{parameter}": tensor}
        prefix = f"model.{side}.layers.{layer.removeprefix('layer_')}"
        if part in LAYER:
            return {f"{prefix}.{LAYER[part]}.{parameter}": tensor}
        if part in STACKED:
            targets = STACKED[part]
            pieces = zip(targets, tensor.chunk(len(targets)), strict=True)
            return {
                f"{prefix}.{target}.{parameter}": piece.clone()
                for target, piece in pieces
                if not (parameter == "bias" and target.endswith("k_proj"))
            }
    raise ValueError(f"the variable {side}/{name} isn't part of Whisper. {_ADVICE}")


class _Reader:
    """A reader of little-endian numbers and strings in sequence, which raises ValueError at an unexpected end."""

    def __init__(self, data: bytes):
        self.data = memoryview(data)
        self.position = 0

    def take(self, size: int) -> memoryview:
        if self.position + size > len(self.data):
            raise ValueError(
                f"the CTranslate2 model is truncated: of its {len(self.data)} bytes, byte {self.position} asks "
                f"for {size} more. {_ADVICE}"
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def string(self) -> str:
        text = bytes(self.take(self.number("H")))
        if not text.endswith(b"\0"):
            raise ValueError(f"a name in the CTranslate2 model ends without its NUL: {text[:40]!r}. {_ADVICE}")
        return text[:-1].decode()

    def finish(self) -> None:
        if self.position != len(self.data):
            raise ValueError(
                f"the CTranslate2 model goes on for {len(self.data) - self.position} bytes after its end. {_ADVICE}"
            )
