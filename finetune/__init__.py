"""Whisper learns your Spanish from a table of audio and text, and drops into the voice-qa pipeline as it is.

Public names: `train_whisper`, `evaluate_whisper`, `compare_whispers`, `check_table`, `export_ct2`, `normalise`. Each
is imported when it is first asked for. Of hfpipe only what hears and reads audio is used, never the voice-qa pipeline.
"""

import importlib

import hfpipe  # noqa: F401  # before torch: it lets torch's waiting threads sleep

_MODULES = {
    "train_whisper": "train",
    "evaluate_whisper": "evaluate",
    "compare_whispers": "evaluate",
    "check_table": "evaluate",
    "export_ct2": "export",
    "normalise": "normalise",
}
__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted(__all__)
