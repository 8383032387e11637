"""Read and write the weights and the configuration of one model, and refuse what is damaged."""

import copy
import json
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils import cached_file

from .hub_access import WITHOUT_HUB, check_reachable
from .logs import quiet_transformers


def read_config(name: str, revision: str | None = None, token=None) -> dict:
    """Read the config.json of a voice, from its folder, the Hugging Face cache or the Hub.

    Raises:
        FileNotFoundError: there is none. ValueError: it is damaged. OSError: the Hub can't be reached, or has no such
            repo.
    """
    check_reachable(name, revision, "tts")
    if Path(name).is_dir() and not Path(name, "config.json").is_file():
        raise FileNotFoundError(f"there is no config.json in {name}; give the folder of a model that speaks.")
    try:
        path = cached_file(name, "config.json", revision=revision, token=token)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise OSError(
            f"tts={name!r} can't be loaded: {reason} Give tts= the folder or the id of a model that speaks, such as "
            f"'coqui/XTTS-v2' or 'facebook/mms-tts-spa'. {WITHOUT_HUB}"
        ) from error
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy or download it again.") from error


def check_weights(model, name: str, revision: str | None = None, token=None) -> None:
    """Refuse a model whose files lack weights, which transformers would have filled with random numbers.

    The files' headers are read once more, 0.2 s for a Whisper base: `pipeline` keeps what the first reading found.

    Args:
        model: as it was loaded, in full.
        name, revision, token: where from.

    Raises:
        OSError: weights are missing; the message names one.
    """
    if not getattr(model, "hf_quantizer", None) and not hasattr(model, "peft_config"):
        source = {"revision": revision, "token": token, "local_files_only": True}
        with quiet_transformers():
            report = type(model).from_pretrained(name, **source, device_map="meta", output_loading_info=True)[1]
        refuse_missing(name, report["missing_keys"])


def refuse_missing(name: str, missing) -> None:
    """Raise OSError if a model's files lack some of its weights.

    Args:
        name: of the model.
        missing: names of the weights that aren't there.
    """
    if missing:
        raise OSError(
            f"the weights of {name!r} are incomplete: {len(missing)} are missing, such as {min(missing)!r}. The files "
            "are damaged, or belong to another config.json: copy or download them again."
        )


def save_model(model: PreTrainedModel, folder, **options) -> None:
    """Save a model as its `save_pretrained` does, which would change its configuration, and leave it as it is."""
    saved = copy.copy(model)
    saved.config = copy.deepcopy(model.config)
    if model.can_generate():
        saved.generation_config = copy.deepcopy(model.generation_config)
    saved.save_pretrained(folder, **options)
