"""Convert a Whisper to CTranslate2, with all the files that faster-whisper loads."""

import os
import shutil
from pathlib import Path

from hfpipe.pipeline.asr_checkpoint import refuse_other_models
from hfpipe.pipeline.files import atomic_write

FILES = ("tokenizer.json", "preprocessor_config.json")  # which faster-whisper reads besides the weights
QUANTIZATIONS = ("float32", "float16", "int8", "int8_float32")


def export_ct2(model: str | os.PathLike, folder: str | os.PathLike, quantization: str = "float32") -> Path:
    """Convert a Whisper to CTranslate2, with its tokenizer and its feature extractor's configuration.

    Args:
        model: folder of a Whisper saved by transformers.
        folder: where to write; it appears whole or not at all, and replaces an earlier export only.
        quantization: type of the weights, one of `QUANTIZATIONS`.

    Raises:
        FileNotFoundError: there is no Whisper in `model`, or it lacks files.
        ValueError: `model` isn't a Whisper, `folder` holds something else, or the quantization isn't valid.
        ImportError: ctranslate2 isn't installed.
    """
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise ImportError("ctranslate2 isn't installed: pip install 'hfpipe[finetune]'") from error
    model, folder = Path(model), Path(folder)
    if not model.exists():
        raise FileNotFoundError(f"there is no Whisper in {model}: no such folder. Give a folder that finetune wrote.")
    refuse_other_models(str(model))
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"the weights' type is {quantization!r}; valid is {', '.join(QUANTIZATIONS)}.")
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.bin").exists():
        raise ValueError(f"{folder} is in use for something else; give another folder.")
    with atomic_write(folder) as temporary:
        TransformersConverter(str(model), copy_files=list(FILES)).convert(str(temporary), quantization=quantization)
        shutil.rmtree(folder, ignore_errors=True)
    return folder
