"""Load the models that the commands run."""

import contextlib
from typing import Any

import torch
from rich.markup import escape
from transformers import AutoConfig, AutomaticSpeechRecognitionPipeline

from ..loading import load, load_asr
from ..offline.repo import offline_repo
from ..pipeline.engine_protocols import SavesVoices
from ..pipeline.errors import explain_out_of_memory
from ..pipeline.hub_access import DEFAULT_WHISPER, check_reachable, split_revision
from ..pipeline.hub_parts import Source, find_folder, find_part, find_source
from ..pipeline.tts_load import load_tts
from ..pipeline.voice_qa import VoiceQAPipeline
from ..synthesis import describe_folder
from .console import progress, step

OFFLINE = "offline"  # as --model, the offline repo


def load_voice_qa(model: str | None, llm: str | None, tts: str | None) -> tuple[VoiceQAPipeline, dict[str, str]]:
    """Load the voice-qa pipeline of `hfpipe ask`.

    Args:
        model: folder, Hub id or "offline"; None loads the default models, or the offline ones without a Hub.
        llm, tts: folders or Hub ids that replace a part.

    Returns:
        The pipeline, and the name of the model and of each part that was given.

    Raises:
        OSError, MemoryError: what `hfpipe.load` raises.
    """
    model = _resolve(model)
    given = {name: value for name, value in {"llm": llm, "tts": tts}.items() if value is not None}
    with step("Loading the models"):
        pipe = load(model, **given)
    return pipe, {"model": pipe.model.config.name_or_path, **given}


def resolve_transcriber(model: str | None) -> tuple[str, str | None]:
    """Return the Whisper of `hfpipe transcribe`, a folder or a Hub id, and its revision.

    Args:
        model: folder, Hub id or "offline", which is built if need be; None is the default Whisper, or the offline one
            without a Hub.
    """
    resolved = _resolve(model)
    return (resolved, None) if resolved else DEFAULT_WHISPER


def load_transcriber(model: str | None, language: str | None = None) -> AutomaticSpeechRecognitionPipeline:
    """Load the speech recognition pipeline of `hfpipe transcribe`, in float32.

    Args:
        model: as `resolve_transcriber` takes it.
        language: code of the language that it must know; None is any.

    Raises:
        OSError: the model can't be reached or read.
        ValueError: it isn't a Whisper, or doesn't know the language.
    """
    name, revision = resolve_transcriber(model)
    with step("Loading the model"):
        return load_asr(name, revision, precision="float32", language=language)


def load_speech(model: str | None, tts: str | None) -> tuple[Any, str]:
    """Load the voice of `hfpipe speak`.

    Args:
        model: a voice-qa repo, as `load_voice_qa` takes it.
        tts: folder or Hub id of another voice.

    Returns:
        The part that speaks, and from where it was loaded; for a folder with a hash of its files.

    Raises:
        OSError, ValueError, MemoryError: it can't be reached or read, or doesn't fit; see `load_tts`.
    """
    if tts is not None:
        source = find_source(*split_revision(tts), None, "tts")
        voices = None
    else:
        name, revision = resolve_transcriber(model)
        whisper = Source(name, revision)
        source = find_part("tts", AutoConfig.from_pretrained(name, revision=revision), whisper, None)
        voices = whisper if whisper.name != DEFAULT_WHISPER[0] and not source.is_folder else None
    with step("Loading the voice"), explain_out_of_memory("tts"):
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        part = load_tts(source.name, revision=source.revision, device=device)
        if voices is not None and isinstance(part, SavesVoices):
            with contextlib.suppress(OSError):  # the repo carries no voices
                part.read_voices(find_folder("tts", voices, None, "tts", only="voice_*.safetensors"))
    return part, f"{source} {describe_folder(source.name)}" if source.is_folder else str(source)


def _resolve(model: str | None) -> str | None:
    """Return the model to load, None for the defaults; builds the offline repo where it is needed."""
    if model is None and not _defaults_available():
        progress.print(f"The Hub doesn't answer and the default models aren't cached: using --model {OFFLINE}.")
        model = OFFLINE
    if model == OFFLINE:
        with progress.status("Building the offline models, once: a minute or two …"):
            return offline_repo(progress=lambda message: progress.print(escape(message)))
    return model


def _defaults_available() -> bool:
    try:
        check_reachable(*DEFAULT_WHISPER, "model")
    except OSError:
        return False
    return True
