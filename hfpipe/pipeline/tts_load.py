"""Load the part that speaks: XTTS, Kokoro, Chatterbox, or any text-to-audio model of transformers."""

from typing import Any

from .hub_access import CHATTERBOX_ID, XTTS_ID
from .hub_code import import_part
from .hub_weights import read_config


def load_tts(name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto"):
    """Load the part that speaks: `XTTS`, `Kokoro`, `ChatterboxTTS` or `TransformersTTS`, as its config.json says.

    Args:
        name_or_path: a folder, or a Hub id such as `coqui/XTTS-v2` or `facebook/mms-tts-spa`.
        revision: commit, branch or tag on the Hub.
        token: for a private repo on the Hub.
        device: where to compute; the CPU by default.
        dtype: of the weights, a torch dtype; float32 by default.
        precision: in which XTTS's language model computes, see `choose_precision`; the others warn if they can't.

    Raises:
        FileNotFoundError: no config.json. ValueError: a damaged one, or not a model that speaks.
        OSError: the Hub can't be reached, or has no such repo. PermissionError, ImportError: see `XTTS`.
    """
    name = str(name_or_path)
    # The license of XTTS's weights is asked for before anything of them is downloaded.
    # Chatterbox's repo has no config.json.
    known = {XTTS_ID: {"model": "xtts"}, CHATTERBOX_ID: {"model": "chatterbox"}}
    config = known.get(name) or read_config(name, revision, token)
    if config.get("model") == "xtts":
        kind: type[Any] = import_part("XTTS")
    elif config.get("model") == "chatterbox":
        kind = import_part("ChatterboxTTS")
    elif config.get("model_type") == "kokoro":
        kind = import_part("Kokoro")
    else:
        kind = import_part("TransformersTTS")
    return kind.from_pretrained(name, revision=revision, token=token, device=device, dtype=dtype, precision=precision)
