"""The training options, shared by Python, the command line and YAML."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from hfpipe.pipeline.files import write_text

METHODS = ("full", "frozen-encoder", "lora")
TRACKERS = ("tensorboard", "wandb", "none")
EXPORTS = ("ct2",)
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# Peak learning rate of full fine-tuning by d_model; model cards of zuazo/whisper-{tiny,base,small,large-v2}-es.
LEARNING_RATES = {384: 3.75e-5, 512: 2.5e-5, 768: 1e-5, 1024: 1e-5, 1280: 1e-5}
LORA_LEARNING_RATE = 1e-3  # as in yeyupiaoling/Whisper-Finetune and peft's examples/int8_training


def option(default, meaning: str):
    """Return a dataclass field with a default and the text of its `--help`."""
    return dataclasses.field(default=default, metadata={"help": meaning})


@dataclasses.dataclass(frozen=True)
class Options:
    """All options of a training; `HELP[name]` describes each one.

    Raises:
        ValueError: an option is invalid, or excludes another.
    """

    train: str = option("", "Training set: a CSV of audio,sentence, or a Hub dataset as org/name:config:split.")
    test: str | None = option(None, "Test set, given like TRAIN. By default, --test-share of TRAIN.")
    model: str = option("openai/whisper-base", "Whisper to fine-tune: a folder, a Hub id, a size (base) or offline.")
    out: str = option("runs/whisper", "Output folder for the model, its report and its checkpoints.")
    language: str = option("es", "Language code of the speech.")
    method: str = option("full", "full, frozen-encoder (train the decoder only) or lora (merged at the end).")
    epochs: float = option(5.0, "Number of epochs; early stopping may end the training before.")
    max_steps: int | None = option(None, "Number of optimizer steps instead of epochs; required for a Hub dataset.")
    batch_size: int = option(8, "Batch size per device.")
    accumulate: int = option(1, "Number of batches to accumulate gradients over.")
    learning_rate: float | None = option(None, "Peak learning rate; the default depends on the model and method.")
    warmup: float = option(0.1, "Share of the steps that warm the learning rate up.")
    lora_rank: int = option(32, "Rank of the LoRA matrices.")
    lora_alpha: int = option(64, "LoRA scaling numerator: the adapters are scaled by alpha / rank.")
    lora_dropout: float = option(0.05, "Dropout on the input of the LoRA matrices.")
    lora_targets: str = option("q_proj,v_proj,fc1,fc2", "Layers that get LoRA matrices.")
    full_windows: float | None = option(
        None, "Share of the steps that use full 30 s windows instead of the shortest ones; default 0.03, for lora 0."
    )
    timestamps: float = option(0.1, "Share of the rows labeled with timestamps, which long audio needs.")
    spec_augment: bool = option(False, "Mask stripes of the spectrogram (SpecAugment).")
    noise: bool = option(False, "Add white noise to half of the rows, 10 to 30 dB below the speech.")
    speed: bool = option(False, "Change the speed of half of the rows by up to 10 %.")
    validation_share: float = option(0.1, "Share of TRAIN for choosing the best checkpoint; 0 uses the last one.")
    test_share: float = option(0.2, "Share of TRAIN to test on, if there is no TEST.")
    evaluate_every: int | None = option(None, "Steps between validations and checkpoints; default one epoch.")
    patience: int = option(3, "Stop after this many validations without a lower word error rate.")
    drop_contradicted: bool = option(False, "Drop the rows whose text MODEL's own transcript contradicts.")
    preprocess: int = option(0, "Precompute the features on disk, in shards of this many rows; 0 doesn't.")
    precision: str = option("auto", "float32, bfloat16, float16 (GPU only), or auto: 16 bits where accelerated.")
    checkpointing: bool = option(False, "Use gradient checkpointing: slower, less memory.")
    other: str | None = option(None, "CSV:CODE of another language, to measure forgetting.")
    long: str | None = option(None, "CSV of audio over 30 s, to measure whether long audio still works.")
    log_to: str = option("tensorboard", "tensorboard, wandb or none.")
    seed: int = option(0, "Random seed for splits, order and augmentation.")
    resume: bool = option(False, "Resume from the last complete checkpoint in OUT.")
    push_to_hub: str | None = option(None, "Hub id to push the model to.")
    export: str | None = option(None, "ct2: also write OUT/ct2, for faster-whisper.")

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
                raise ValueError(f"{flag(name)} is {value}; valid is a share from 0 to 1 (of rows, to 0.9).")
        if self.preprocess < 0 or (self.preprocess and (self.noise or self.speed)):
            raise ValueError(
                "--preprocess computes the features once, so --noise and --speed can't change them: drop one."
            )
        for name in ("max_steps", "evaluate_every", "learning_rate"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{flag(name)} is {value}; valid is more than 0.")
        if self.other and ":" not in self.other:
            raise ValueError(f"--other is {self.other!r}; valid is a CSV and its language: english.csv:en.")

    def share_of_full_windows(self) -> float:
        """Return the share of steps in full windows, by default the one that suits the method.

        At LoRA's high learning rate, the few concatenated rows of full windows taught the model to skip first
        sentences: with them it omitted 38 of 702 words, without them 7 (on the data of benchmarks/es_mx.py).
        """
        if self.full_windows is not None:
            return self.full_windows
        return 0.0 if self.method == "lora" else 0.03

    def peak_learning_rate(self, width: int) -> float:
        """Return the peak learning rate, by default the one that suits the method and the model's d_model."""
        if self.learning_rate:
            return self.learning_rate
        if self.method == "lora":
            return LORA_LEARNING_RATE
        return LEARNING_RATES[min(LEARNING_RATES, key=lambda known: abs(known - width))]


HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(Options)}
# The only options that may change when a training is resumed: they don't affect what was computed.
CHANGEABLE = {"resume", "push_to_hub", "export", "log_to", "out", "checkpointing"}


def flag(name: str) -> str:
    """Return an option's name on the command line: `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")


def read_yaml(
    path: str | os.PathLike, kind: type = Options, flatten: Callable[[dict], dict] = lambda values: values
) -> dict:
    """Read options from a YAML file of `name: value` lines.

    Args:
        kind: the dataclass that has the options as fields.
        flatten: takes the mapping in the file, and returns it without sections.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: it isn't a mapping, or has an unknown option or a value of the wrong type.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} (now in {Path.cwd()}); give a YAML of options.")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} isn't YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; valid is lines of 'option: value'.")
    values = {str(name).replace("-", "_"): value for name, value in flatten(values).items()}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := set(values) - set(fields):
        raise ValueError(f"{path} has {', '.join(sorted(unknown))}; valid is {', '.join(fields)}.")
    for field in fields.values():
        if field.name in values:
            values[field.name] = _as_type(values[field.name], field, path)
    return values


def save_options(options, folder: Path) -> None:
    """Write the options to `folder/options.json`, or, to resume, compare them with those written there.

    The batch size may change if the rows per step, its product with the accumulated batches, stay the same.

    Raises:
        ValueError: the training was begun with other options.
    """
    path = folder / "options.json"
    new = dataclasses.asdict(options)
    if options.resume and path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in new if name not in CHANGEABLE and new[name] != old.get(name)]
        if new["batch_size"] * new["accumulate"] == old.get("batch_size", 0) * old.get("accumulate", 0):
            differing = [name for name in differing if name not in ("batch_size", "accumulate")]
        if differing:
            pairs = ", ".join(f"{flag(name)} was {old.get(name)} and is {new[name]}" for name in differing)
            raise ValueError(
                f"{folder} was begun with other options: {pairs}. Give the same, or another --out; what may change is "
                "--checkpointing, and --batch-size with --accumulate if their product stays."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(new, indent=2))


def _as_type(value, field: dataclasses.Field, path):
    """Convert a YAML value to the option's type: YAML reads 1e-5 as a string, and 3 as an int where 3.0 is meant."""
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
