"""The options of a training, once for Python, the command line and YAML."""

import dataclasses
import json
import os
from pathlib import Path

import yaml

METHODS = ("full", "frozen-encoder", "lora")
TRACKERS = ("tensorboard", "wandb", "none")
EXPORTS = ("ct2",)
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# Peak learning rates of full fine-tunings by d_model: the cards of zuazo/whisper-{tiny,base,small,large-v2}-es.
LEARNING_RATES = {384: 3.75e-5, 512: 2.5e-5, 768: 1e-5, 1024: 1e-5, 1280: 1e-5}
LORA_LEARNING_RATE = 1e-3  # yeyupiaoling/Whisper-Finetune's and peft's examples/int8_training


def _option(default, meaning: str):
    return dataclasses.field(default=default, metadata={"help": meaning})


@dataclasses.dataclass(frozen=True)
class Options:
    """What to train on what, and how; `OPTIONS[name]` in the command line's help says what each one does.

    Raises:
        ValueError: a value that is none of the valid ones, or two that exclude each other.
    """

    train: str = _option("", "CSV of audio,sentence, or a dataset of the Hub as org/name:config:split, streamed.")
    test: str | None = _option(None, "The same, never trained on. Without one, --test-share of TRAIN is put aside.")
    model: str = _option("openai/whisper-base", "The Whisper to start from: a folder, Hub id, size (base) or offline.")
    out: str = _option("runs/whisper", "The folder for the trained Whisper, its report and its checkpoints.")
    language: str = _option("es", "Code of the language that is spoken.")
    method: str = _option("full", "full, frozen-encoder (the decoder alone learns) or lora (small matrices, merged).")
    epochs: float = _option(5.0, "How often each row is heard; early stopping may end before.")
    max_steps: int | None = _option(None, "Optimiser steps instead of epochs; a streamed dataset needs it.")
    batch_size: int = _option(8, "Rows at once on each device.")
    accumulate: int = _option(1, "Batches to an optimiser step.")
    learning_rate: float | None = _option(None, "The peak; by default what suits the model's size and the method.")
    warmup: float = _option(0.1, "Share of the steps in which the learning rate rises.")
    lora_rank: int = _option(32, "Rank of LoRA's matrices.")
    lora_alpha: int = _option(64, "Weight of LoRA's matrices, over the rank.")
    lora_dropout: float = _option(0.05, "Dropout before LoRA's matrices.")
    lora_targets: str = _option("q_proj,v_proj,fc1,fc2", "The layers that get them.")
    full_windows: float | None = _option(
        None, "Share of steps in full windows of 30 s, the others being as short as fits; by default 0.03, for lora 0."
    )
    timestamps: float = _option(0.1, "Share of rows with timestamps, so that long audio goes on working.")
    spec_augment: bool = _option(False, "Hide stripes of the spectrogram (SpecAugment).")
    noise: bool = _option(False, "Add white noise, 10 to 30 dB under the speech, to half of the rows.")
    speed: bool = _option(False, "Say half of the rows up to a tenth slower or faster.")
    validation_share: float = _option(0.1, "Share of TRAIN that chooses the best checkpoint; 0 takes the last.")
    test_share: float = _option(0.2, "Share of TRAIN to test on, where there is no TEST.")
    evaluate_every: int | None = _option(None, "Steps between validations and checkpoints; by default once an epoch.")
    patience: int = _option(3, "Stop after so many validations without a better word error rate.")
    drop_contradicted: bool = _option(False, "Drop the rows that MODEL's own transcript contradicts.")
    preprocess: int = _option(0, "Make the features once, in shards of so many rows in OUT; 0 makes them each time.")
    precision: str = _option("auto", "float32, bfloat16, float16 (GPU), or auto: 16 bits with units for it.")
    checkpointing: bool = _option(False, "Compute activations twice instead of keeping them: slower, less memory.")
    other: str | None = _option(None, "CSV:CODE of another language, to see whether it is forgotten.")
    long: str | None = _option(None, "CSV of audio over 30 s, to see whether long audio still works.")
    log_to: str = _option("tensorboard", "tensorboard, wandb or none.")
    seed: int = _option(0, "Of the splits, the order and every chance.")
    resume: bool = _option(False, "Go on from the last whole checkpoint in OUT.")
    push_to_hub: str | None = _option(None, "The Hub id to push the trained Whisper to.")
    export: str | None = _option(None, "ct2: also write OUT/ct2, for faster-whisper.")

    def __post_init__(self):
        if not self.train:
            raise ValueError("there is nothing to train on: give a CSV of audio,sentence.")
        valid_values = {"method": METHODS, "log_to": TRACKERS, "export": (None, *EXPORTS), "precision": PRECISIONS}
        for name, valid in valid_values.items():
            if (value := getattr(self, name)) not in valid:
                raise ValueError(f"{flag(name)} is {value!r}; valid is {', '.join(map(str, filter(None, valid)))}.")
        for name in ("batch_size", "accumulate", "epochs", "lora_rank", "lora_alpha", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{flag(name)} is {getattr(self, name)}; valid is more than 0.")
        for name in ("warmup", "full_windows", "timestamps", "validation_share", "test_share", "lora_dropout"):
            value = getattr(self, name)
            if value is not None and (not 0 <= value <= 1 or (name.endswith("_share") and value > 0.9)):
                raise ValueError(f"{flag(name)} is {value}; valid is a share from 0 to 1 (0.9 of rows).")
        if self.preprocess < 0 or (self.preprocess and (self.noise or self.speed)):
            raise ValueError("--preprocess makes the features once, so --noise and --speed can't change them: choose.")
        for name in ("max_steps", "evaluate_every", "learning_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{flag(name)} is {value}; valid is more than 0.")
        if self.other and ":" not in self.other:
            raise ValueError(f"--other is {self.other!r}; valid is a CSV and its language: english.csv:en.")

    def share_of_full_windows(self) -> float:
        """Gives the share of steps in full windows that was asked for, or the one that suits the method.

        With the high learning rate of LoRA, the few rows that are joined there taught it to skip first sentences: 38
        words of 702 were left out, and without them 7 (benchmarks/es_mx.py).
        """
        if self.full_windows is not None:
            return self.full_windows
        return 0.0 if self.method == "lora" else 0.03

    def peak_learning_rate(self, width: int) -> float:
        """Gives the learning rate that was asked for, or the one that suits a Whisper of this d_model."""
        if self.learning_rate:
            return self.learning_rate
        if self.method == "lora":
            return LORA_LEARNING_RATE
        return LEARNING_RATES[min(LEARNING_RATES, key=lambda known: abs(known - width))]


HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(Options)}
# Of a training that goes on, only these may differ from how it began: they change nothing that was computed.
CHANGEABLE = {"resume", "push_to_hub", "export", "log_to", "out"}


def flag(name: str) -> str:
    """Names an option as the command line does: `--batch-size` of `batch_size`."""
    return "--" + name.replace("_", "-")


def read_yaml(path: str | os.PathLike) -> dict:
    """Reads options from a YAML file of `name: value` lines.

    Raises:
        FileNotFoundError, ValueError: no such file, no mapping, or a name that is no option.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} (now in {Path.cwd()}); give a YAML of options.")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} isn't YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; valid is lines of 'option: value'.")
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    if unknown := set(values) - set(HELP):
        raise ValueError(f"{path} has {', '.join(sorted(unknown))}; valid is {', '.join(HELP)}.")
    for field in dataclasses.fields(Options):
        if field.name in values:
            values[field.name] = _as_type(values[field.name], field, path)
    return values


def remember(options: Options, folder: Path) -> None:
    """Writes the options to `folder/options.json`, or, to resume, checks them against those written there.

    Raises:
        ValueError: the training was begun with others.
    """
    path = folder / "options.json"
    now = dataclasses.asdict(options)
    if options.resume and path.is_file():
        then = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in now if name not in CHANGEABLE and now[name] != then.get(name)]
        if differing:
            pairs = ", ".join(f"{flag(name)} was {then.get(name)} and is {now[name]}" for name in differing)
            raise ValueError(f"{folder} was begun with other options: {pairs}. Give the same, or another --out.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".options.{os.getpid()}"
    partial.write_text(json.dumps(now, indent=2), encoding="utf-8")
    os.replace(partial, path)


def _as_type(value, field: dataclasses.Field, path):
    """Gives a YAML value the option's type: YAML reads 1e-5 as text, and 3 where 3.0 is meant."""
    wanted = [part.strip() for part in str(field.type).replace("typing.", "").split("|")]
    if hasattr(field.type, "__name__"):
        wanted = [field.type.__name__]
    if value is None and "None" in wanted:
        return None
    try:
        if "bool" in wanted:
            if isinstance(value, bool):
                return value
        elif "int" in wanted and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        elif "float" in wanted and not isinstance(value, bool):
            return float(value)
        elif "str" in wanted and isinstance(value, str):
            return value
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{path}: {field.name} is {value!r}; valid is {field.type if len(wanted) > 1 else wanted[0]}.")
