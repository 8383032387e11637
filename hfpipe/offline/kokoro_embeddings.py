"""Read the speaker embeddings of Kokoro's voices, which take two seconds of speech each to compute.

The file beside this module has them for the style tables that `npm_voices` pins. `python -m
hfpipe.offline.kokoro_embeddings` writes it anew, with the offline repo's Kokoro.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

FILE = Path(__file__).with_suffix(".safetensors")


def read_embeddings(voices: Iterable[str]) -> dict[str, np.ndarray]:
    """Return resemblyzer's embedding of each voice, float32 of shape (256,)."""
    embeddings = load_file(FILE)
    return {name: embeddings[name] for name in voices}


if __name__ == "__main__":
    from ..pipeline.tts_kokoro import Kokoro
    from .repo import offline_repo

    kokoro = Kokoro.from_pretrained(f"{offline_repo(print)}/tts")
    kokoro.embed_voices()
    save_file(kokoro.embeddings, FILE)
    print(f"{FILE} has {len(kokoro.embeddings)} voices.")
