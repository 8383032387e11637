"""Fine-tune Whisper or XTTS on a table of audio and text, into a model that the voice-qa pipeline loads as it is.

The public names are `train_whisper`, `evaluate_whisper`, `compare_whispers`, `check_table`, `export_ct2`,
`normalize_spanish`, `train_voice`, `merge_voice`, `judge_voice`, `make_listening_test` and `analyze_listening`; each
is imported on first access. This package uses hfpipe's modules for audio, text and models, and never the voice-qa
pipeline itself.
"""

import importlib

import hfpipe  # noqa: F401  # before torch: it makes idle threads sleep

_MODULES = {
    "train_whisper": "train",
    "evaluate_whisper": "evaluate",
    "compare_whispers": "evaluate",
    "check_table": "evaluate",
    "export_ct2": "export",
    "normalize_spanish": "normalize",
    "train_voice": "voice.train",
    "merge_voice": "voice.merge",
    "judge_voice": "voice.judge",
    "make_listening_test": "voice.listening",
    "analyze_listening": "voice.listening_results",
}
__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted(__all__)
