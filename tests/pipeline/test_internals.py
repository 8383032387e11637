"""What hfpipe relies on of other packages' insides is still there: one test for each."""

import torch
from transformers import pipeline

from hfpipe.pipeline.internals import arguments_of_pipeline, multiply_bfloat16, pack_bfloat16
from hfpipe.pipeline.voice_qa import VoiceQAPipeline


def test_what_pipeline_was_given_is_found(tiny_whisper, tiny_chat, tiny_vits):
    """transformers 5.23.0, pipelines/__init__.py: `pipeline` keeps hub_kwargs, model_kwargs and pipeline_class."""
    found = {}

    class Watcher(VoiceQAPipeline):
        def __init__(self, *args, **kwargs):
            found.update(arguments_of_pipeline(type(self)))
            super().__init__(*args, **kwargs)

    given = {"llm": str(tiny_chat), "tts": str(tiny_vits), "model_kwargs": {"attn_implementation": "eager"}}
    pipeline("voice-qa", model=str(tiny_whisper), pipeline_class=Watcher, token="hf_secret", revision="v1", **given)
    assert found["token"] == "hf_secret" and found["revision"] == "v1"
    assert found["model_kwargs"]["attn_implementation"] == "eager"
    assert arguments_of_pipeline(VoiceQAPipeline) == {}  # outside of any call


def test_packed_weights_multiply_as_a_linear_layer():
    """torch 2.11.0: `torch.ops.mkldnn._reorder_linear_weight` and `_linear_pointwise`."""
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(24, 16), torch.randn(24), torch.randn(3, 5, 16)
    for each in (bias.bfloat16(), None):
        expected = torch.nn.functional.linear(inputs.bfloat16(), weight.bfloat16(), each)
        found = multiply_bfloat16(inputs.bfloat16(), pack_bfloat16(weight), each)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.02)
