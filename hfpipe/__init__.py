"""A spoken question in, a spoken answer out: importing hfpipe registers the transformers pipeline "voice-qa".

The names below are public, and so is what `hfpipe.notebook` exports; each is imported on first access. Other modules
may change without notice. What is worth logging goes to the logger "hfpipe".
"""

import importlib
import os
from typing import TYPE_CHECKING

import wrapt

from . import _moved as _moved

if TYPE_CHECKING:  # type checkers read the names here
    from .cli.machine import check_machine as check_machine
    from .loading import load as load
    from .loading import load_asr as load_asr
    from .notebook.recorder import record as record
    from .offline.pypi_turns import smart_turn as smart_turn
    from .offline.repo import offline_repo as offline_repo
    from .offline.turn_detector import SmartTurn as SmartTurn
    from .pipeline.asr_whisper import transcribe as transcribe
    from .pipeline.audio import Reference as Reference
    from .pipeline.audio import load_audio as load_audio
    from .pipeline.audio import load_question as load_question
    from .pipeline.audio import load_reference as load_reference
    from .pipeline.audio import write_wav as write_wav
    from .pipeline.audio_speaker import similarity as similarity
    from .pipeline.audio_vad import has_speech as has_speech
    from .pipeline.engine import Engine as Engine
    from .pipeline.engine_events import Audio as Audio
    from .pipeline.engine_events import Done as Done
    from .pipeline.engine_events import Text as Text
    from .pipeline.engine_events import Transcript as Transcript
    from .pipeline.engine_protocols import LanguageModel as LanguageModel
    from .pipeline.engine_protocols import SpeechModel as SpeechModel
    from .pipeline.engine_request import Request as Request
    from .pipeline.errors import NoSpeech as NoSpeech
    from .pipeline.hub_access import hub_reachable as hub_reachable
    from .pipeline.live_conversation import Conversation as Conversation
    from .pipeline.live_endpointer import Endpointer as Endpointer
    from .pipeline.live_endpointer import TurnBegan as TurnBegan
    from .pipeline.live_endpointer import TurnEnded as TurnEnded
    from .pipeline.live_listen import Unheard as Unheard
    from .pipeline.live_stream import Stream as Stream
    from .pipeline.llm_local import LLM as LLM
    from .pipeline.llm_remote import RemoteLLM as RemoteLLM
    from .pipeline.space_demo import demo as demo
    from .pipeline.text_speakable import speakable as speakable
    from .pipeline.tts_kokoro import Kokoro as Kokoro
    from .pipeline.tts_load import load_tts as load_tts
    from .pipeline.tts_transformers import TransformersTTS as TransformersTTS
    from .pipeline.tts_voices import SavedVoice as SavedVoice
    from .pipeline.tts_voices import Voice as Voice
    from .pipeline.tts_xtts import XTTS as XTTS
    from .pipeline.voice_qa import VoiceQAPipeline as VoiceQAPipeline
    from .spoken_lines import read_lines as read_lines
    from .synthesis import speak_lines as speak_lines

__version__ = "0.1.0"

# torch's threads spin while they wait, and so take the cores from onnxruntime and from every other program: beside one
# busy process, an answer on 2 cores took 13 s instead of 50 with this. It has no effect once torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_MODULES = {  # by public name, the module that holds it
    "load": "loading",
    "load_asr": "loading",
    "offline_repo": "offline.repo",
    "read_lines": "spoken_lines",
    "speak_lines": "synthesis",
    "smart_turn": "offline.pypi_turns",
    "VoiceQAPipeline": "pipeline.voice_qa",
    "Engine": "pipeline.engine",
    "Request": "pipeline.engine_request",
    "LanguageModel": "pipeline.engine_protocols",
    "SpeechModel": "pipeline.engine_protocols",
    "Stream": "pipeline.live_stream",
    "Transcript": "pipeline.engine_events",
    "Text": "pipeline.engine_events",
    "Audio": "pipeline.engine_events",
    "Done": "pipeline.engine_events",
    "Conversation": "pipeline.live_conversation",
    "Endpointer": "pipeline.live_endpointer",
    "TurnBegan": "pipeline.live_endpointer",
    "TurnEnded": "pipeline.live_endpointer",
    "SmartTurn": "offline.turn_detector",
    "Unheard": "pipeline.live_listen",
    "NoSpeech": "pipeline.errors",
    "LLM": "pipeline.llm_local",
    "RemoteLLM": "pipeline.llm_remote",
    "load_tts": "pipeline.tts_load",
    "TransformersTTS": "pipeline.tts_transformers",
    "XTTS": "pipeline.tts_xtts",
    "Kokoro": "pipeline.tts_kokoro",
    "Voice": "pipeline.tts_voices",
    "SavedVoice": "pipeline.tts_voices",
    "Reference": "pipeline.audio",
    "load_audio": "pipeline.audio",
    "load_question": "pipeline.audio",
    "load_reference": "pipeline.audio",
    "write_wav": "pipeline.audio",
    "has_speech": "pipeline.audio_vad",
    "similarity": "pipeline.audio_speaker",
    "transcribe": "pipeline.asr_whisper",
    "speakable": "pipeline.text_speakable",
    "hub_reachable": "pipeline.hub_access",
    "demo": "pipeline.space_demo",
    "check_machine": "cli.machine",
    "record": "notebook.recorder",
}
__all__ = [*_MODULES, "__version__"]


@wrapt.when_imported("transformers.pipelines")
def _register(pipelines):
    """Register "voice-qa" once transformers' pipelines are imported, which takes seconds, so not before.

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
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
