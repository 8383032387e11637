"""Load a voice-qa pipeline with the installed code, and with errors that say what to do."""

import os

from safetensors import SafetensorError
from transformers import pipeline

from .pipeline.errors import explain_out_of_memory
from .pipeline.hub_access import check_reachable
from .pipeline.voice_qa import VoiceQAPipeline


def load(model=None, **kwargs) -> VoiceQAPipeline:
    """Load a voice-qa pipeline with the installed code; none of the repo's code is run.

    Args:
        model: a voice-qa repo or a Whisper: a folder or a Hub id. None is the default Whisper with the default parts.
        **kwargs: all that `transformers.pipeline` and `VoiceQAPipeline` take: `llm`, `tts`, `device`, `revision` ...

    Raises:
        OSError: the model can't be reached or read, or is damaged; the message says what to give instead.
        MemoryError: it doesn't fit; the message names a smaller one.
    """
    if isinstance(model, (str, os.PathLike)):
        model = os.fspath(model)
        check_reachable(model, kwargs.get("revision"), "model")
    try:
        with explain_out_of_memory("asr"):
            return pipeline("voice-qa", model=model, pipeline_class=VoiceQAPipeline, **kwargs)
    except SafetensorError as error:
        raise OSError(f"the weights of {model!r} are damaged ({error}). Copy or download them again.") from error
