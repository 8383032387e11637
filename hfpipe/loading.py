"""Load pipelines with the installed code, and with errors that say what to do."""

import os

import torch
from safetensors import SafetensorError
from transformers import AutomaticSpeechRecognitionPipeline, pipeline

from .pipeline.asr_checkpoint import check_language, complete_whisper, refuse_other_models
from .pipeline.asr_whisper import language_code, prepare_whisper
from .pipeline.errors import explain_out_of_memory
from .pipeline.voice_qa import VoiceQAPipeline


def load(model=None, **kwargs) -> VoiceQAPipeline:
    """Load a voice-qa pipeline with the installed code; none of the repo's code is run.

    Args:
        model: a voice-qa repo or a Whisper: a folder or a Hub id. None is the default Whisper with the default parts.
        **kwargs: all that `transformers.pipeline` and `VoiceQAPipeline` take: `llm`, `tts`, `device`, `revision` ...

    Raises:
        OSError: the model can't be reached or read, or is damaged; the message says what to give instead.
        ValueError: it isn't a Whisper, or not in transformers' format; the message says what it is.
        MemoryError: it doesn't fit; the message names a smaller one.
    """
    if isinstance(model, (str, os.PathLike)):
        model = os.fspath(model)
        refuse_other_models(model, kwargs.get("revision"))
    try:
        with explain_out_of_memory("asr"):
            return pipeline("voice-qa", model=model, pipeline_class=VoiceQAPipeline, **kwargs)
    except SafetensorError as error:
        raise OSError(f"the weights of {model!r} are damaged ({error}). Copy or download them again.") from error


def load_asr(
    model: str | os.PathLike, revision: str | None = None, precision: str = "auto", language: str | None = None
) -> AutomaticSpeechRecognitionPipeline:
    """Load transformers' speech recognition pipeline around a Whisper, on the GPU if there is one.

    Args:
        model: a folder or a Hub id.
        revision: branch, tag or commit of a Hub id.
        precision: in which it computes on a CPU, see `VoiceQAPipeline`; "float32" is exact.
        language: code or English name of a language that the model must know; None is any.

    Raises:
        OSError: the model can't be reached or read, or lacks files.
        ValueError: it isn't a Whisper in transformers' format, or doesn't know the language.
    """
    model = os.fspath(model)
    refuse_other_models(model, revision)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    asr = pipeline("automatic-speech-recognition", model=model, revision=revision, device=device)
    complete_whisper(asr.model, asr.tokenizer)
    check_language(asr.model, language_code(language))
    prepare_whisper(asr.model, precision)
    return asr
