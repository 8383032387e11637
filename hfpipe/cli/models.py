"""Load the models that the commands run."""

from rich.markup import escape
from transformers import AutomaticSpeechRecognitionPipeline

from ..loading import load, load_asr
from ..offline.repo import offline_repo
from ..pipeline.hub_access import DEFAULT_WHISPER, check_reachable
from ..pipeline.voice_qa import VoiceQAPipeline
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
