"""Make "voice-qa" known to transformers, and load it with errors that say what to do."""

import os

from transformers.pipelines import PIPELINE_REGISTRY, AutoModelForSpeechSeq2Seq, pipeline

from .hub import DEFAULT_WHISPER, check_reachable


class DefaultModel(dict):
    """The default Whisper, looked for before it is handed out: unreachable, it raises at once and says what to do.

    transformers asks its registry for the default of a task given no model; left alone it would then retry for three
    quarters of a minute and end in a message that knows nothing of voices.
    """

    def __getitem__(self, key):
        check_reachable(*DEFAULT_WHISPER, "model")
        return super().__getitem__(key)


def register() -> None:
    """Registers the task "voice-qa" with transformers, so that `pipeline("voice-qa", ...)` finds it.

    The class is named, not imported, as transformers names its own: the modules of this package import transformers'
    pipelines, whose import runs this.
    """
    PIPELINE_REGISTRY.supported_tasks["voice-qa"] = {
        "impl": "hfpipe.voice_qa.VoiceQAPipeline",
        "pt": (AutoModelForSpeechSeq2Seq,),
        "default": DefaultModel(model=DEFAULT_WHISPER),
        "type": "multimodal",
    }


def load(model=None, **kwargs):
    """Loads a voice-qa pipeline with the installed code; none of the repo's code is run.

    Args:
        model: a voice-qa repo or a Whisper: a folder or a Hub id. None is the default Whisper with the default parts.
        **kwargs: all that `transformers.pipeline` and `VoiceQAPipeline` take: `llm`, `tts`, `device`, `revision` ...

    Returns:
        The `VoiceQAPipeline`.

    Raises:
        OSError: the model can't be reached or read; the message says what to give instead.
        MemoryError: it doesn't fit; the message names a smaller one.
    """
    from .voice_qa import VoiceQAPipeline, explain_out_of_memory

    if isinstance(model, (str, os.PathLike)):
        model = os.fspath(model)
        check_reachable(model, kwargs.get("revision"), "model")
    with explain_out_of_memory("asr"):
        return pipeline("voice-qa", model=model, pipeline_class=VoiceQAPipeline, **kwargs)
