"""Read and write XTTS checkpoints: Coqui's pickles, without running code in them, and safetensors."""

import contextlib
import json
import pickle
import re
import warnings
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.initialization import no_init_weights

from .files import atomic_write
from .hub_access import DEFAULT_PARTS, WITHOUT_HUB, XTTS_ID, check_reachable, split_revision
from .logs import quiet_transformers
from .tts_xtts_license import require_license

XTTS_REVISION = split_revision(DEFAULT_PARTS["tts"])[1]
CONFIG, VOCABULARY = "config.json", "vocab.json"
WEIGHTS, SPEAKERS = "model.safetensors", "speakers_xtts.safetensors"
COQUI_WEIGHTS, COQUI_SPEAKERS = "model.pth", "speakers_xtts.pth"  # pickles, as Coqui publishes them
FILES = [CONFIG, VOCABULARY, WEIGHTS, SPEAKERS, COQUI_WEIGHTS, COQUI_SPEAKERS, "voice_*.safetensors"]


def read_model(folder: Path):
    """Load coqui's `Xtts` model from a folder, on the CPU, without running any code in the checkpoint.

    Weights in safetensors are memory-mapped. The first load from a pickle writes safetensors next to it.

    Raises:
        ValueError: a file is damaged, or the files belong to different checkpoints.
        ImportError: coqui-tts isn't installed.
    """
    try:
        from TTS.tts.configs.xtts_config import XttsConfig
        from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
        from TTS.tts.models.xtts import Xtts
    except ImportError as error:
        raise ImportError(f"XTTS needs coqui-tts ({error}): pip install 'hfpipe[xtts]' or coqui-tts.") from error
    config = XttsConfig()
    try:
        config.load_json(str(folder / CONFIG))
        tokenizer = VoiceBpeTokenizer(vocab_file=str(folder / VOCABULARY))
    except Exception as error:  # tokenizers raises plain Exception, coqpit a TypeError, json a ValueError
        raise ValueError(f"{folder}: {CONFIG} or {VOCABULARY} is damaged ({error}). Copy it again.") from error
    config.model_args.gpt_number_text_tokens = None  # otherwise Xtts() builds the GPT here, and again below
    with no_init_weights():
        model = Xtts(config)
        model.tokenizer = tokenizer
        model.init_models()
    weights = _find_weights(folder)
    try:
        model.load_state_dict(without_duplicates(_read_weights(weights)), assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {weights} don't fit its {CONFIG} and {VOCABULARY} ({str(error)[:500]}). "
            "Take all files from one checkpoint."
        ) from error
    if weights.name == COQUI_WEIGHTS:
        with contextlib.suppress(OSError, SafetensorError):  # read-only or full disk: read the pickle again next time
            write_weights(model, folder)
    model.eval()
    return model.requires_grad_(False)


def write_checkpoint(model, speakers: dict, folder: Path) -> None:
    """Write a checkpoint that `read_model` and `read_speakers` load; config.json comes last, and each file whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / VOCABULARY) as temporary:
        model.tokenizer.tokenizer.save(str(temporary))
    write_weights(model, folder)
    if speakers:
        write_speakers(speakers, folder)
    with atomic_write(folder / CONFIG) as temporary:
        model.config.save_json(str(temporary))


def write_weights(model, folder: Path) -> None:
    """Save the weights of a model as safetensors; the file appears whole or not at all."""
    weights = without_duplicates(model.state_dict())
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary)


def write_speakers(speakers: dict, folder: Path) -> None:
    """Save the built-in speakers of a checkpoint as safetensors, keeping their order."""
    tensors = {
        f"{name}/{key}": tensor.contiguous() for name, voice in speakers.items() for key, tensor in voice.items()
    }
    with atomic_write(folder / SPEAKERS) as temporary:
        save_file(tensors, temporary, {"speakers": json.dumps(list(speakers))})


def _find_weights(folder: Path) -> Path:
    """Return the path of the weights: safetensors, unless the pickle next to them is newer."""
    fast, slow = folder / WEIGHTS, folder / COQUI_WEIGHTS
    if fast.is_file() and (not slow.is_file() or fast.stat().st_mtime >= slow.stat().st_mtime):
        return fast
    return slow


def _find(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def missing_file(folder: Path) -> str | None:
    """Return the name of a file that is missing from an XTTS folder, or None."""
    needed = ((CONFIG,), (WEIGHTS, COQUI_WEIGHTS), (VOCABULARY,))
    return next((names[-1] for names in needed if _find(folder, *names) is None), None)


def _read_weights(path: Path) -> dict:
    """Load a dict of tensors from safetensors or from a pickle; code in a pickle is never run."""
    if path.suffix != ".safetensors":
        return _read_pickle(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}). Copy or download it again.") from error


def read_speakers(folder: Path) -> dict:
    """Load the built-in speakers, in order, as {name: {"gpt_cond_latent": tensor, "speaker_embedding": tensor}}."""
    path = _find(folder, SPEAKERS, COQUI_SPEAKERS)
    if path is None or path.name == COQUI_SPEAKERS:
        return _read_pickle(path) if path else {}
    tensors, speakers = _read_weights(path), {}
    with safe_open(path, "pt") as content:
        names = json.loads((content.metadata() or {}).get("speakers", "[]"))
    try:
        for name in names:
            speakers[name] = {key: tensors[f"{name}/{key}"] for key in ("gpt_cond_latent", "speaker_embedding")}
    except KeyError as error:
        raise ValueError(f"{path} is damaged (it lacks {error}). Copy or download it again.") from error
    return speakers


def load_weights(path: Path):
    """Load what torch saved to a file, on the CPU; code in the file is never run.

    Raises:
        ValueError: the file holds anything but weights, or is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} isn't a file of plain weights, so it wasn't loaded and nothing in it was run: "
            f"{str(error)[:300]} … Download the checkpoint again, from somebody you trust."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}). Copy or download it again.") from error


def _read_pickle(path: Path) -> dict:
    """Load a dict of tensors saved by torch on the CPU; code in the file is never run.

    Raises:
        ValueError: the file holds anything but weights, or is damaged.
    """
    from TTS.config.shared_configs import BaseDatasetConfig
    from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig

    allowed = [  # config classes pickled in Coqui's own files, two of them under their former module
        BaseDatasetConfig,
        XttsConfig,
        (XttsArgs, "TTS.tts.models.xtts.XttsArgs"),
        (XttsAudioConfig, "TTS.tts.models.xtts.XttsAudioConfig"),
    ]
    with torch.serialization.safe_globals(allowed):
        content = load_weights(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict; give a file that coqui-tts wrote.")
    return content


def without_duplicates(checkpoint: dict) -> dict:
    """Return the weights of the model, without the prefix and the copies that coqui's trainer and inference add."""
    state = {name.removeprefix("xtts."): tensor for name, tensor in checkpoint.get("model", checkpoint).items()}
    added = ("gpt.gpt_inference.", "gpt.gpt.wte.", "torch_mel_spectrogram_style_encoder", "torch_mel_spectrogram_dvae")
    return {name: tensor for name, tensor in state.items() if not name.startswith((*added, "dvae."))}


def download(name: str, revision: str | None, token) -> Path:
    """Return the folder of a checkpoint in the Hugging Face cache, downloading it once its license is accepted.

    Raises:
        FileNotFoundError: `name` is neither a folder nor a Hub id.
        PermissionError: the license wasn't accepted.
        OSError: the Hub can't be reached, or the download failed.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise FileNotFoundError(f"there is no folder {name}; give a folder, or a Hub id such as {XTTS_ID}.")
    wanted = {"repo_id": name, "revision": revision, "allow_patterns": FILES}
    with contextlib.suppress(LocalEntryNotFoundError):
        folder = Path(snapshot_download(**wanted, local_files_only=True))
        if not missing_file(folder):
            return folder
    check_reachable(name, revision, "tts")
    require_license()
    try:
        return Path(snapshot_download(**wanted, token=token))
    except Exception as error:  # connection errors are httpx's, which aren't OSErrors
        reason = str(error).splitlines()[0]
        raise OSError(
            f"tts={name!r} (revision {revision or 'main'}) can't be downloaded: {reason}. Check the name and the "
            f"connection, or give tts= a folder with the checkpoint or another id. {WITHOUT_HUB}"
        ) from error


@contextlib.contextmanager
def quietly():
    """Silence the warnings of coqui-tts, and of transformers about the options that coqui-tts sets on purpose."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
