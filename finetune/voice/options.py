"""The options of a voice's training, shared by Python, the command line and YAML."""

import dataclasses
import os

from hfpipe.pipeline.hub_access import XTTS_ID

from ..options import PRECISIONS, TRACKERS, flag, option, read_yaml
from .consent import require_consent

METHODS = ("lora", "full")
LEARNING_RATES = {"full": 5e-6, "lora": 1e-4}  # GPTTrainerConfig.lr of coqui-tts; chatterbox-es-latam's
GPT_DROPOUT = {"full": 0.1, "lora": 0.0}  # GPT-2's own, with which coqui trains; LoRA has a dropout of its own

# Sections and names of a YAML that is grouped as in chatterbox-es-latam's train_config.yaml, and our options.
SECTIONS = {
    "model": {"base_model": "model", "target_modules": "lora_targets"},
    "training": {
        "gradient_accumulation_steps": "accumulate",
        "num_epochs": "epochs",
        "warmup_steps": "warmup",
        "max_audio_length": "max_seconds",
    },
    "data": {"train_path": "train", "val_path": "validation", "test_path": "test"},
    "output": {"checkpoint_dir": "out", "save_every": "evaluate_every"},
    "logging": {"log_every": "log_every", "wandb_project": "wandb_project"},
}


@dataclasses.dataclass(frozen=True)
class VoiceOptions:
    """All options of a voice's training; `HELP[name]` describes each one.

    Raises:
        NoConsent: nobody has said that the speakers agreed.
        ValueError: an option is invalid.
    """

    train: str = option("", "Training set: a table of audio,text[,speaker,country], LJSpeech's, or wav + txt files.")
    test: str | None = option(None, "Test set, given like TRAIN: its loss is reported before and after.")
    consent: str = option("", "Who agreed to a voice being made of these recordings, and when. Required.")
    validation: str | None = option(None, "Validation set, given like TRAIN. By default, --validation-share of TRAIN.")
    model: str = option(XTTS_ID, "XTTS to fine-tune: a folder that has dvae.pth too, or a Hub id.")
    out: str = option("runs/voice", "Output folder for the voice, its report and its checkpoints.")
    language: str = option("es", "Language code of the speech.")
    country: str | None = option(None, "Train on the rows of this country only: an adapter for each accent.")
    method: str = option("lora", "lora (an adapter, merged at the end) or full (every weight of the language model).")
    epochs: float = option(10.0, "Number of epochs; early stopping may end the training before.")
    max_steps: int | None = option(None, "Number of optimizer steps instead of epochs.")
    batch_size: int = option(4, "Batch size per device.")
    accumulate: int = option(4, "Number of batches to accumulate gradients over.")
    learning_rate: float | None = option(None, "Peak learning rate; default 1e-4 for lora, 5e-6 (coqui's) for full.")
    warmup: float = option(0.05, "Steps that warm the learning rate up; below 1, their share.")
    lora_rank: int = option(32, "Rank of the LoRA matrices.")
    lora_alpha: int = option(64, "LoRA scaling numerator: the adapters are scaled by alpha / rank.")
    lora_dropout: float = option(0.05, "Dropout on the input of the LoRA matrices.")
    lora_targets: str = option("c_attn,c_proj,c_fc", "Layers that get LoRA matrices.")
    dropout: float | None = option(None, "Dropout within GPT-2; default 0.1 (coqui's) for full, 0 for lora.")
    max_seconds: float = option(11.6, "Longest recording in seconds; XTTS reads no more than 11.6.")
    drop_contradicted: bool = option(False, "Drop the rows whose text what Whisper (--asr) hears contradicts.")
    validation_share: float = option(0.1, "Share of TRAIN for choosing the best checkpoint; 0 uses the last one.")
    evaluate_every: int | None = option(None, "Steps between validations and checkpoints; default one epoch.")
    patience: int = option(3, "Stop after this many validations without a lower loss.")
    read_back: int = option(3, "Held-out sentences that are spoken and read back at each validation; 0 speaks none.")
    asr: str = option("openai/whisper-base", "Whisper that reads them back: a folder, a Hub id, a size or offline.")
    precision: str = option("auto", "float32, bfloat16, float16 (GPU only), or auto: 16 bits where accelerated.")
    checkpointing: bool = option(False, "Use gradient checkpointing: slower, less memory.")
    log_to: str = option("tensorboard", "tensorboard, wandb or none.")
    log_every: int | None = option(None, "Steps between entries of the log; default a twentieth, at most 10.")
    wandb_project: str | None = option(None, "Project of --log-to wandb.")
    seed: int = option(0, "Random seed for the split, the order and the reference clips.")
    resume: bool = option(False, "Resume from the last complete checkpoint in OUT.")
    push_to_hub: str | None = option(None, "Hub id to push the voice to, within its license.")

    def __post_init__(self):
        if not self.train:
            raise ValueError("there is nothing to train on: give a table of audio,text.")
        require_consent(self.consent)
        valid_values = {"method": METHODS, "log_to": TRACKERS, "precision": PRECISIONS}
        for name, valid in valid_values.items():
            if (value := getattr(self, name)) not in valid:
                raise ValueError(f"{flag(name)} is {value!r}; valid is {', '.join(valid)}.")
        for name in ("batch_size", "accumulate", "epochs", "lora_rank", "lora_alpha", "patience", "max_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{flag(name)} is {getattr(self, name)}; valid is more than 0.")
        for name in ("max_steps", "evaluate_every", "learning_rate", "log_every"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{flag(name)} is {value}; valid is more than 0.")
        for name, most in (("validation_share", 0.9), ("lora_dropout", 0.99), ("dropout", 0.99)):
            if (value := getattr(self, name)) is not None and not 0 <= value <= most:
                raise ValueError(f"{flag(name)} is {value}; valid is from 0 to {most}.")
        if self.warmup < 0 or self.read_back < 0:
            raise ValueError("--warmup and --read-back are negative; valid is 0 or more.")

    @property
    def peak_learning_rate(self) -> float:
        """The peak learning rate, by default the one that suits the method."""
        return self.learning_rate or LEARNING_RATES[self.method]

    @property
    def gpt_dropout(self) -> float:
        """The dropout within GPT-2, by default the one that suits the method."""
        return GPT_DROPOUT[self.method] if self.dropout is None else self.dropout

    @property
    def has_validation(self) -> bool:
        """Whether rows are held out to choose the best checkpoint by."""
        return bool(self.validation) or self.validation_share > 0


HELP = {field.name: field.metadata["help"] for field in dataclasses.fields(VoiceOptions)}


def read_voice_yaml(path: str | os.PathLike) -> dict:
    """Read a voice's options from a YAML file of `name: value` lines, alone or in the sections of `SECTIONS`.

    A section may have its own names (`base_model`, `num_epochs`) and ours. `wandb_project` logs to W&B.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: it isn't a mapping, or has an unknown option or a value of the wrong type.
    """
    values = read_yaml(path, VoiceOptions, _without_sections)
    if values.get("wandb_project"):
        values.setdefault("log_to", "wandb")
    return values


def _without_sections(values: dict) -> dict:
    """Return the options of all sections, under our names; a list is joined with commas."""
    flat = {}
    for name, value in values.items():
        if name in SECTIONS and isinstance(value, dict):
            flat |= {SECTIONS[name].get(inner, inner): given for inner, given in value.items()}
        else:
            flat[name] = value
    return {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in flat.items()}
