"""Write a Whisper in CTranslate2's layout, with all the files that faster-whisper looks for."""

import os
import shutil
from pathlib import Path

FILES = ("tokenizer.json", "preprocessor_config.json")  # that faster-whisper reads beside the weights
QUANTISATIONS = ("float32", "float16", "int8", "int8_float32")


def export_ct2(model: str | os.PathLike, folder: str | os.PathLike, quantisation: str = "float32") -> Path:
    """Converts a Whisper to CTranslate2, with its tokenizer and the settings of its features.

    Args:
        model: a folder that holds a Whisper as transformers saves one.
        folder: where it goes; it appears whole or not at all, and must not exist with something else in it.
        quantisation: the type of the weights, one of `QUANTISATIONS`.

    Raises:
        FileNotFoundError, ValueError: no such Whisper, a folder in use, or no such type.
        ImportError: ctranslate2 isn't installed.
    """
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise ImportError("ctranslate2 isn't installed: pip install 'hfpipe[finetune]'") from error
    model, folder = Path(model), Path(folder)
    if not (model / "config.json").is_file():
        raise FileNotFoundError(f"there is no Whisper in {model}: no config.json. Give a folder that finetune wrote.")
    if quantisation not in QUANTISATIONS:
        raise ValueError(f"the weights' type is {quantisation!r}; valid is {', '.join(QUANTISATIONS)}.")
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.bin").exists():
        raise ValueError(f"{folder} is in use for something else; give another folder.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        TransformersConverter(str(model), copy_files=list(FILES)).convert(str(partial), quantization=quantisation)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
