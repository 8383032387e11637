"""A spoken question in, a spoken answer out: importing hfpipe registers the transformers pipeline "voice-qa".

Public names: `load`, `offline_repo`, `VoiceQAPipeline`, `Stream`, `Conversation`, `Endpointer`, `LLM`, `RemoteLLM`,
`load_tts`, `TransformersTTS`, `XTTS`, `Kokoro`, `record`. Each is imported when it is first asked for.
"""

import importlib
import os

import wrapt

__version__ = "0.1.0"

# torch's threads spin while they wait, and so take the cores from onnxruntime and from every other program: beside one
# busy process, an answer on 2 cores took 13 s instead of 50 with this. It has no effect once torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MODULES = {
    "load": "loading",
    "offline_repo": "offline.repo",
    "VoiceQAPipeline": "pipeline.voice_qa",
    "Stream": "pipeline.live_stream",
    "Conversation": "pipeline.live_conversation",
    "Endpointer": "pipeline.live_endpointer",
    "LLM": "pipeline.llm_local",
    "RemoteLLM": "pipeline.llm_remote",
    "load_tts": "pipeline.tts_load",
    "TransformersTTS": "pipeline.tts_transformers",
    "XTTS": "pipeline.tts_xtts",
    "Kokoro": "pipeline.tts_kokoro",
    "record": "notebook.recorder",
}
__all__ = [*_MODULES, "__version__"]


@wrapt.when_imported("transformers.pipelines")
def _register(pipelines):
    """Registers "voice-qa" as soon as transformers' pipelines are imported, which takes seconds, so not before.

    The class is named, not imported, as transformers names its own: our modules import transformers' pipelines, whose
    import runs this.
    """
    from .pipeline.hub_access import DEFAULT_WHISPER, DefaultModel

    pipelines.PIPELINE_REGISTRY.supported_tasks["voice-qa"] = {
        "impl": f"{__name__}.pipeline.voice_qa.VoiceQAPipeline",
        "pt": (pipelines.AutoModelForSpeechSeq2Seq,),
        "default": DefaultModel(model=DEFAULT_WHISPER),
        "type": "multimodal",
    }


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted(__all__)
