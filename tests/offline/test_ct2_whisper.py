"""A tiny Whisper, written in CTranslate2's format, is read back as the same Whisper."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hfpipe.offline.ct2_whisper import read_variables, whisper_state_dict

DTYPES = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}


def string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def model_bin(variables: dict[str, np.ndarray], aliases=(), spec="WhisperSpec", version=6) -> bytes:
    """Serialize variables in CTranslate2's format, independently of the reader."""
    data = struct.pack("<I", version) + string(spec) + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        data += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", DTYPES[array.dtype.name], array.nbytes) + array.tobytes()
    data += struct.pack("<I", len(aliases))
    return data + b"".join(string(alias) + string(name) for alias, name in aliases)


def linear(variables: dict, name: str, *modules: torch.nn.Module) -> None:
    weights = [module.weight for module in modules]
    biases = [torch.zeros(len(module.weight)) if module.bias is None else module.bias for module in modules]
    variables[f"{name}/weight"] = torch.cat(weights).detach().numpy()
    variables[f"{name}/bias"] = torch.cat(biases).detach().numpy()


def norm(variables: dict, name: str, module: torch.nn.Module) -> None:
    variables[f"{name}/gamma"], variables[f"{name}/beta"] = (
        module.weight.detach().numpy(),
        module.bias.detach().numpy(),
    )


def variables_of(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    variables = {}
    for side, part in (("encoder", model.model.encoder), ("decoder", model.model.decoder)):
        variables[f"{side}/num_heads"] = np.array(2, np.int16)
        variables[f"{side}/pre_norm"] = np.array(1, np.int8)
        variables[f"{side}/position_encodings/encodings"] = part.embed_positions.weight.detach().numpy()
        norm(variables, f"{side}/layer_norm", part.layer_norm)
        for number, layer in enumerate(part.layers):
            prefix, attention = f"{side}/layer_{number}", layer.self_attn
            norm(variables, f"{prefix}/self_attention/layer_norm", layer.self_attn_layer_norm)
            stacked = (attention.q_proj, attention.k_proj, attention.v_proj)
            linear(variables, f"{prefix}/self_attention/linear_0", *stacked)
            linear(variables, f"{prefix}/self_attention/linear_1", attention.out_proj)
            norm(variables, f"{prefix}/ffn/layer_norm", layer.final_layer_norm)
            linear(variables, f"{prefix}/ffn/linear_0", layer.fc1)
            linear(variables, f"{prefix}/ffn/linear_1", layer.fc2)
            if side == "decoder":
                attention = layer.encoder_attn
                norm(variables, f"{prefix}/attention/layer_norm", layer.encoder_attn_layer_norm)
                linear(variables, f"{prefix}/attention/linear_0", attention.q_proj)
                linear(variables, f"{prefix}/attention/linear_1", attention.k_proj, attention.v_proj)
                linear(variables, f"{prefix}/attention/linear_2", attention.out_proj)
    for name in ("conv1", "conv2"):
        variables[f"encoder/{name}/weight"] = getattr(model.model.encoder, name).weight.detach().numpy()
        variables[f"encoder/{name}/bias"] = getattr(model.model.encoder, name).bias.detach().numpy()
    variables["decoder/embeddings/weight"] = model.model.decoder.embed_tokens.weight.detach().numpy()
    return variables


def tiny_whisper(seed: int) -> WhisperForConditionalGeneration:
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=24,
        d_model=8,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=4,
        max_source_positions=6,
        max_target_positions=5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=2,
        suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # norms and biases start at 1 and 0, which would hide a mix-up
        for parameter in model.parameters():
            parameter.normal_()
    return model


TIED = [("decoder/projection/weight", "decoder/embeddings/weight")]
SOURCE = tiny_whisper(0)
DATA = model_bin(variables_of(SOURCE), TIED)


def test_it_reads_back_the_same_model():
    model = tiny_whisper(1)
    model.load_state_dict(whisper_state_dict(DATA), strict=True)
    expected = SOURCE.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_half_precision_comes_back_in_float32():
    halved = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in variables_of(SOURCE).items()}
    state = whisper_state_dict(model_bin(halved, TIED))
    assert {value.dtype for value in state.values()} == {torch.float32}
    torch.testing.assert_close(state["proj_out.weight"], SOURCE.proj_out.weight.detach(), atol=0.01, rtol=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_a_file_cut_anywhere_is_refused(size):
    with pytest.raises(ValueError):
        whisper_state_dict(DATA[:size])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_other_file_is_refused(data):
    with pytest.raises(ValueError):
        whisper_state_dict(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (model_bin({}, version=5), "version 6"),
        (model_bin({}, spec="TransformerSpec"), "TransformerSpec"),
        (model_bin({"encoder/strange/weight": np.ones((2, 2), np.float32)}), "isn't part of Whisper"),
        (model_bin({"encoder/conv1/weight": np.ones((2, 2), np.int8)}), "quantized"),
        (model_bin({}, [("alias", "nothing")]), "lacks"),
        (DATA + b"more", "after its end"),
        (DATA.replace(b"WhisperSpec\0", b"WhisperSpec!"), "NUL"),
    ],
)
def test_the_error_says_what_is_wrong(data, message):
    with pytest.raises(ValueError, match=message):
        whisper_state_dict(data)


def test_variables_keep_shape_and_values():
    variables = read_variables(model_bin({"a": np.arange(6, dtype=np.int16).reshape(2, 3)}, [("b", "a")]))
    assert variables["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
