"""Load whatever speaks: XTTS, Kokoro, or any text-to-audio model of transformers."""

from .xtts import XTTS


def load_tts(name_or_path, revision=None, token=None, device=None, dtype=None):
    return XTTS.from_pretrained(name_or_path, revision, token, device, dtype)
