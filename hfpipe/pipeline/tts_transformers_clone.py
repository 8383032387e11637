"""Speak with transformers' models that imitate a recording: each wants voice and text in a layout of its own."""

from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    DacConfig,
    DacModel,
    HiggsAudioV2TokenizerConfig,
    HiggsAudioV2TokenizerModel,
    PocketTTSAudioTokenizerConfig,
    PocketTTSAudioTokenizerModel,
)

LONGEST_SPEECH = 15  # seconds that a model may make of a piece of text, for one that never stops
LONGEST_REFERENCE = 20  # seconds, so that Dia's 3072 positions, 36 s, hold the reference and what it says next
LONGEST_PIECE = 200  # characters: Spanish has about 15 a second
LONGEST_POCKET = 50  # tokens (transformers, PocketTTSProcessor.split_text)
HIGGS_SETTING = (  # what its documentation in transformers says before the text
    {"role": "system", "content": [{"type": "text", "text": "Generate audio following instruction."}]},
    {"role": "scene", "content": [{"type": "text", "text": "Audio is recorded from a quiet room."}]},
)

POCKET = ("pocket_tts", "gradium_phonon_tts")
# The codec of each model that doesn't hold its own: it is saved beside the model.
CODECS = {
    **dict.fromkeys(POCKET, (PocketTTSAudioTokenizerModel, PocketTTSAudioTokenizerConfig)),
    "dia": (DacModel, DacConfig),
    "higgs_audio_v2": (HiggsAudioV2TokenizerModel, HiggsAudioV2TokenizerConfig),
}
WANT_WORDS = {"csm", "dia", "higgs_audio_v2"}  # they continue the reference, and so must know what is said in it


class ClonedVoice(NamedTuple):
    """A voice to imitate.

    Attributes:
        samples: the reference, float32 (samples,) at the model's rate.
        words: what is said in it, or None for a model that doesn't want to know.
    """

    samples: np.ndarray
    words: str | None = None


def speak_in_voice(pipe, text: str, voice: ClonedVoice | None, options: dict) -> np.ndarray:
    """Speak one piece of text in a voice, or in the model's own.

    Args:
        pipe: transformers' text-to-audio pipeline around a model whose type is a key of `CLONING`.
        options: for the model's `generate`; `max_new_tokens` is `LONGEST_SPEECH` unless given.

    Returns:
        The waveform, float32 of shape (samples,).
    """
    with torch.inference_mode():
        waveform = CLONING[pipe.model.config.model_type](pipe, text, voice, options)
    return waveform.float().cpu().numpy().reshape(-1)


def frames_per_second(pipe) -> float:
    """Return how many tokens, or latents, a model makes for a second of audio."""
    config = pipe.model.config
    if config.model_type == "csm":
        return config.codec_config.frame_rate
    if config.model_type == "vibevoice":
        return pipe.sampling_rate / config.audio_config.hop_length
    return pipe.sampling_rate / pipe.processor.audio_tokenizer.config.hop_length


def _speak_pocket(pipe, text: str, voice: ClonedVoice | None, options: dict) -> torch.Tensor:
    content = [] if voice is None else [_audio(voice)]
    inputs = _apply_template(pipe, [{"role": "user", "content": [*content, _text(text)]}])
    output = pipe.model.generate(**inputs, **options, return_dict_in_generate=True)
    return pipe.processor.decode(output.audio_latents, output.audio_latents_mask)[0]


def _speak_vibevoice(pipe, text: str, voice: ClonedVoice | None, options: dict) -> torch.Tensor:
    content = [] if voice is None else [_audio(voice)]
    inputs = _apply_template(pipe, [{"role": "0", "content": [_text(text), *content]}])
    return pipe.model.generate(**inputs, **_limited(pipe, options))[0]


def _speak_csm(pipe, text: str, voice: ClonedVoice | None, options: dict) -> torch.Tensor:
    said = [] if voice is None else [{"role": "0", "content": [_text(voice.words), _audio(voice)]}]
    inputs = _apply_template(pipe, [*said, {"role": "0", "content": [_text(text)]}])
    return pipe.model.generate(**inputs, **_limited(pipe, options), output_audio=True)[0]


def _speak_higgs(pipe, text: str, voice: ClonedVoice | None, options: dict) -> torch.Tensor:
    said = []
    if voice is not None:
        said = [
            {"role": "user", "content": [_text(voice.words)]},
            {"role": "assistant", "content": [_audio(voice)]},
        ]
    asked = {"role": "user", "content": [_text(text)]}
    inputs = _apply_template(pipe, [*HIGGS_SETTING, *said, asked], add_generation_prompt=True)
    return pipe.processor.decode(pipe.model.generate(**inputs, **_limited(pipe, options)))


def _speak_dia(pipe, text: str, voice: ClonedVoice | None, options: dict) -> torch.Tensor:
    processor, model = pipe.processor, pipe.model
    words = text if voice is None else f"{voice.words} {text}"
    audio = {} if voice is None else {"audio": [voice.samples]}
    inputs = processor(text=[f"[S1] {words}"], **audio, padding=True, return_tensors="pt").to(model.device)
    start = None if voice is None else processor.get_audio_prompt_len(inputs["decoder_attention_mask"])
    tokens = model.generate(**inputs, **_limited(pipe, options))
    return processor.decode(tokens, audio_prompt_len=start)


CLONING = {
    **dict.fromkeys(POCKET, _speak_pocket),
    "csm": _speak_csm,
    "dia": _speak_dia,
    "higgs_audio_v2": _speak_higgs,
    "vibevoice": _speak_vibevoice,
}


def _apply_template(pipe, conversation: list[dict], **template):
    """Return the model's inputs for a conversation, by the chat template of its repo."""
    settings = {"return_tensors": "pt", "sampling_rate": pipe.sampling_rate}
    inputs = pipe.processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, processor_kwargs=settings, **template
    )
    return inputs.to(pipe.model.device, dtype=pipe.model.dtype)


def _limited(pipe, options: dict) -> dict:
    """Return the options of `generate` with a limit: transformers' own, 256 tokens, is 3 s of Dia, 34 of VibeVoice."""
    return {"max_new_tokens": int(LONGEST_SPEECH * frames_per_second(pipe)), **options}


def _text(text: str | None) -> dict:
    return {"type": "text", "text": text}


def _audio(voice: ClonedVoice) -> dict:
    return {"type": "audio", "audio": voice.samples}
