"""Tell a Whisper's files from other models, and fill in what its generation configuration lacks."""

import json
import os
from pathlib import Path

from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import cached_file

from .hub_access import check_reachable

WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "pytorch_model*.bin")
TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # either is a whole tokenizer
FEATURES = ("preprocessor_config.json", "processor_config.json")  # either describes the log-mel features
START = "<|startoftranscript|>"
ENGLISH_END = 50256  # id of <|endoftext|> in GPT-2's vocabulary, which the English-only Whispers keep
BEFORE_FIRST_WORDS = 50  # timestamp tokens, or 1 s: max_initial_timestamp_index of OpenAI's configurations
NO_SPEECH = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|nocaptions|>")
EXAMPLE = "the folder or Hub id of a Whisper in transformers' format, such as 'openai/whisper-small'"
FOREIGN = {  # file of another program: whose it is
    "*.gguf": "a GGUF file, for whisper.cpp or llama.cpp",
    "ggml*.bin": "a GGML file, for whisper.cpp",
    "*.pt": "a checkpoint of the openai-whisper package, or another PyTorch file",
    "*.pth": "a PyTorch file",
    "*.nemo": "a NeMo model",
    "*.onnx": "an ONNX model",
    "weights.npz": "an MLX model",
}


def refuse_other_models(name: str, revision: str | None = None) -> None:
    """Refuse whatever isn't a Whisper in transformers' format, and say what it is and what to give instead.

    Args:
        name: a folder, a file or a Hub id; of a Hub id only the configuration is looked at.
        revision: branch, tag or commit of a Hub id.

    Raises:
        OSError: the model can't be reached.
        FileNotFoundError: files of a Whisper are missing; the message names them.
        ValueError: it is an adapter, another program's format, a folder of checkpoints or another model.
    """
    path = Path(name)
    if path.is_file():
        raise ValueError(_explain_file(path))
    if path.is_dir():
        config = str(path / "config.json")
        _refuse_other_folders(path)
    else:
        check_reachable(name, revision, "model")
        found = _of_hub(name, "config.json", revision)
        if not found:
            adapter = _of_hub(name, "adapter_config.json", revision)
            if adapter:
                raise ValueError(_explain_adapter(name, _read_json(adapter)))
            return  # from_pretrained says why it can't be read
        config = found
    values = _read_json(config)
    kind = values.get("model_type")
    if kind is None and {"suppress_ids", "alignment_heads", "lang_ids"} & set(values):
        raise ValueError(_explain_ctranslate2(name))
    if kind is None and "architectures" not in values:
        raise ValueError(f"{name!r} is no Whisper of transformers: its config.json has no model_type. Give {EXAMPLE}.")
    if kind != "whisper":
        raise ValueError(f"model={name!r} is a {kind!r}; valid is a Whisper: {EXAMPLE}.")
    if path.is_dir():
        _refuse_missing_files(path)


def complete_whisper(model, tokenizer) -> None:
    """Fill in what a Whisper's generation configuration lacks, from its tokenizer and its configuration.

    Older fine-tuned models, and copies without generation_config.json, lack the languages and the tasks, which are
    then read from the tokenizer's special tokens; the suppressed tokens are those of OpenAI's models.

    Args:
        model: a `WhisperForConditionalGeneration`, whose `generation_config` is changed in place.
        tokenizer: its tokenizer.

    Raises:
        FileNotFoundError: the tokenizer isn't a whole one of Whisper; its files are missing.
    """
    name, ids = model.config.name_or_path, tokenizer.get_vocab()
    if START not in ids or len(ids) < min(model.config.eos_token_id or 0, ENGLISH_END):
        raise FileNotFoundError(
            f"the tokenizer of {name!r} isn't a whole one of Whisper: it has {len(ids)} tokens. Copy tokenizer.json "
            "and tokenizer_config.json (or vocab.json, merges.txt and added_tokens.json) from the model that it was "
            f"trained from, or save them there: WhisperProcessor.from_pretrained(BASE).save_pretrained({name!r})."
        )
    end = ids.get("<|endoftext|>", model.config.eos_token_id)
    languages = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in ids}
    tasks = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate") if f"<|{task}|>" in ids}
    known = model.generation_config
    if getattr(known, "is_multilingual", None) is None:
        known.is_multilingual = bool(languages and tasks) and end != ENGLISH_END
        if known._from_model_config:  # there was no generation_config.json
            known._from_model_config = False
            known.suppress_tokens = _tokens_without_speech(ids, end)
            known.begin_suppress_tokens = [*tokenizer.encode(" ", add_special_tokens=False), end]
    filled = {
        "decoder_start_token_id": ids[START],
        "eos_token_id": end,
        "pad_token_id": end,
        "bos_token_id": end,
        "no_timestamps_token_id": ids.get("<|notimestamps|>"),
        "prev_sot_token_id": ids.get("<|startofprev|>"),
        "max_initial_timestamp_index": BEFORE_FIRST_WORDS,
        "return_timestamps": False,
    }
    if known.is_multilingual:
        filled |= {"lang_to_id": languages, "task_to_id": tasks}
    for key, value in filled.items():
        if value is not None and getattr(known, key, None) is None:
            setattr(known, key, value)
    if known.max_length is None or known.max_length <= 20:  # transformers' default, of a few words
        known.max_length = model.config.max_target_positions


def check_language(model, language: str | None) -> None:
    """Refuse a language that a Whisper doesn't know; None, which detects it, is always known.

    Raises:
        ValueError: the message lists the known languages.
    """
    config, name = model.generation_config, model.config.name_or_path
    if language is None or (language == "en" and not config.is_multilingual):
        return
    if not config.is_multilingual:
        raise ValueError(
            f"{name!r} hears English alone, not {language!r}; valid is one of en. Give language 'en', or a "
            "multilingual Whisper without '.en' in its name."
        )
    known = sorted(token.strip("<|>") for token in config.lang_to_id)
    if language not in known:
        raise ValueError(f"this Whisper doesn't know the language {language!r}; valid is one of {', '.join(known)}.")


def _refuse_other_folders(folder: Path) -> None:
    """Refuse a folder that has no Whisper's config.json, or an adapter's or another program's weights beside it."""
    has_weights = any(list(folder.glob(pattern)) for pattern in WEIGHTS)
    if (folder / "adapter_config.json").is_file() and not ((folder / "config.json").is_file() and has_weights):
        raise ValueError(_explain_adapter(str(folder), _read_json(folder / "adapter_config.json")))
    if (folder / "model.bin").is_file() and not has_weights:
        raise ValueError(_explain_ctranslate2(str(folder)))
    if (folder / "config.json").is_file() and has_weights:
        return
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    inner = sorted(folder.glob("checkpoints/checkpoint-*"))
    if checkpoints or inner:
        if inner and (folder / "options.json").is_file():
            advice = "Its training isn't finished: run it again with --resume, and give this folder then."
        else:
            advice = f"Give one of them, such as {(checkpoints or inner)[-1]}, or the folder of the finished model."
        raise ValueError(f"{str(folder)!r} holds checkpoints of a training, and no model. {advice}")
    for pattern, what in FOREIGN.items():
        foreign = next(iter(sorted(folder.glob(pattern)) or sorted(folder.glob(f"onnx/{pattern}"))), None)
        if foreign:
            raise ValueError(f"{str(folder)!r} holds {what} ({foreign.name}). {_convert(foreign)}")
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent for path in folder.glob("*/config.json"))
        advice = f"Give {inside[0]}, which has one." if inside else f"Give {EXAMPLE}."
        raise FileNotFoundError(f"there is no config.json in {str(folder)!r}, so it holds no model. {advice}")


def _refuse_missing_files(folder: Path) -> None:
    """Raise FileNotFoundError, naming the files, if a Whisper's folder lacks its weights or its tokenizer."""
    missing = []
    if not any(list(folder.glob(pattern)) for pattern in WEIGHTS):
        missing.append("its weights (model.safetensors)")
    if not any(all((folder / file).is_file() for file in files) for files in TOKENIZER):
        partial = [file for file in TOKENIZER[1] if not (folder / file).is_file()]
        missing.append(f"its {partial[0]}" if len(partial) == 1 else "its tokenizer (tokenizer.json)")
    if not any((folder / file).is_file() for file in FEATURES):
        missing.append(f"its {FEATURES[0]}")
    if missing:
        raise FileNotFoundError(
            f"the Whisper in {str(folder)!r} lacks {' and '.join(missing)}. Copy what is missing from where it came; "
            "the tokenizer and the preprocessor are those of the model that it was trained from: "
            f"WhisperProcessor.from_pretrained(BASE).save_pretrained({str(folder)!r})."
        )


def _explain_file(path: Path) -> str:
    """Return what a file is that was given as a model, and what to give."""
    with path.open("rb") as file:
        magic = file.read(4)
    what = next((what for pattern, what in FOREIGN.items() if path.match(pattern)), None)
    if magic == b"GGUF":
        what = FOREIGN["*.gguf"]
    elif magic in (b"lmgg", b"fmgg", b"tjgg"):  # 'ggml', 'ggmf' and 'ggjt' as little-endian numbers
        what = FOREIGN["ggml*.bin"]
    if what:
        return f"model={str(path)!r} is {what}. {_convert(path)}"
    if (path.parent / "config.json").is_file():
        return f"model={str(path)!r} is a file; give its folder, {str(path.parent)!r}."
    return f"model={str(path)!r} is a file; valid is {EXAMPLE}."


def _convert(path: Path) -> str:
    """Return how to turn another program's file into a Whisper of transformers."""
    if path.suffix == ".pt":
        return (
            "Convert it: python -m transformers.models.whisper.convert_openai_to_hf --checkpoint_path "
            f"{path} --pytorch_dump_folder_path FOLDER --convert_preprocessor True, and give FOLDER. OpenAI's own are "
            f"on the Hub: 'openai/whisper-{path.stem}'."
        )
    return f"Give the model that it was converted from: {EXAMPLE}."


def _explain_adapter(name: str, config: dict) -> str:
    """Return what a folder of LoRA matrices is, and how to merge it or what to give instead."""
    base = config.get("base_model_name_or_path") or "BASE"
    above = next((folder for folder in list(Path(name).absolute().parents)[:2] if _is_whisper(folder)), None)
    is_checkpoint = Path(name, "trainer_state.json").is_file()
    what = "a checkpoint of a LoRA training" if is_checkpoint else "a LoRA adapter"
    if above:
        advice = f"The merged model is in {str(above)!r}: give that."
    else:
        advice = (
            f"Give its base, {base!r}, or merge it: PeftModel.from_pretrained(WhisperForConditionalGeneration."
            f"from_pretrained({base!r}), {name!r}).merge_and_unload().save_pretrained('merged'); "
            f"WhisperProcessor.from_pretrained({base!r}).save_pretrained('merged'); and give 'merged'."
        )
        if is_checkpoint:
            advice = f"Finish the training with --resume, and give its folder. {advice}"
    return f"model={name!r} is {what}, not a whole model: it only changes its base. {advice}"


def _explain_ctranslate2(name: str) -> str:
    return (
        f"model={name!r} is a CTranslate2 model, for faster-whisper. Give the model that it was converted from: "
        f"{EXAMPLE}."
    )


def _is_whisper(folder: Path) -> bool:
    config = folder / "config.json"
    has_weights = any(list(folder.glob(pattern)) for pattern in WEIGHTS)
    return has_weights and config.is_file() and _read_json(config).get("model_type") == "whisper"


def _read_json(path: str | os.PathLike) -> dict:
    """Read a configuration.

    Raises:
        ValueError: it is damaged.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); copy or download it again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(values).__name__}; copy or download it again.")
    return values


def _of_hub(name: str, file: str, revision: str | None) -> str | None:
    """Return the path of a Hub repo's file in the cache, downloaded if need be; None if it has none."""
    try:
        return cached_file(name, file, revision=revision)
    except OSError:
        return None


def _tokens_without_speech(ids: dict[str, int], end: int) -> list[int]:
    """Return the tokens that OpenAI's models never write: annotations such as "♪" and "(", and Whisper's own marks."""
    listed = {ENGLISH_END: NON_SPEECH_TOKENS, ENGLISH_END + 1: NON_SPEECH_TOKENS_MULTI}.get(end, [])
    marks = [ids[mark] for mark in (START, *NO_SPEECH) if mark in ids]
    return sorted({token for token in listed if token < end} | set(marks))
