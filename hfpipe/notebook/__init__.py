"""Record, play, plot and measure in a notebook. Each function is imported when it is first used."""

import importlib

_MODULES = {
    "in_colab": "colab",
    "upload": "colab",
    "asr_llm_tts_pipeline": "laboratory",
    "choose_models": "laboratory",
    "ensure_16k_mono": "laboratory",
    "load_asr": ".loading",
    "measure_voices": "laboratory",
    "speak_table": "laboratory",
    "speak_with_retry": "laboratory",
    "stage": "laboratory",
    "suggest_smaller": "laboratory",
    "play": "playback",
    "players": "playback",
    "plot_times": "plots",
    "plot_voices": "plots",
    "table": "plots",
    "record": "recorder",
}
__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
