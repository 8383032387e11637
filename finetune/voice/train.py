"""Fine-tune XTTS on a table, from checking its rows to writing the voice, its report and its model card."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import set_seed

from hfpipe.pipeline.files import write_text
from hfpipe.pipeline.tts_xtts_checkpoint import read_speakers, write_checkpoint

from ..card import public_name
from ..checkpoints import CheckpointCallback, EarlyStopping, last_complete_checkpoint
from ..options import save_options
from ..report import machine, write_json
from ..termination import StopOnSigterm
from ..train import BEFORE, push, refuse_used_folder
from .batches import Clip, ClipDataset, VoiceCollator
from .card import write_card
from .codes import Codec
from .merge import merge_into
from .options import VoiceOptions
from .prepare import VoiceSplits, prepare
from .readback import ReadBack
from .trainer import (
    VoiceTrainer,
    checkpoint_folder,
    explain_out_of_memory,
    lowest_loss,
    precision_of,
    training_arguments,
)
from .xtts import add_training, find_checkpoint, load_xtts


def train_voice(
    train: str | os.PathLike,
    test: str | os.PathLike | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    **fields,
) -> dict:
    """Fine-tune XTTS on a table of audio and text, and write it to a folder that `tts=` takes.

    The folder holds the voice in coqui's layout, with safetensors; `adapter/`, the LoRA matrices alone; `README.md`,
    the model card; `report.json`; `data.md`, the dropped rows; `tensorboard/`; and `codes/`, `read_back/` and
    `checkpoints/`, which may be deleted.

    Args:
        train: the table: audio,text[,speaker,country], LJSpeech's, or a folder of wav and txt files.
        test: the same; its loss is reported before and after.
        say: called with a description of each stage as it begins.
        **fields: the other fields of `VoiceOptions`; `consent` is required.

    Returns:
        The report, JSON-serializable; empty in all processes but the main one.

    Raises:
        OSError: a table, the model or the Hub can't be read, or the voice can't be pushed.
        ValueError: an option or a table is invalid, the consent isn't stated, or the training diverged.
        MemoryError: out of memory; the message lists the options to change.
    """
    options = VoiceOptions(train=os.fspath(train), test=os.fspath(test) if test else None, **fields)
    main = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    say = say if main else lambda text: None
    out = Path(options.out)
    refuse_used_folder(options)
    folder = find_checkpoint(options.model)
    xtts = load_xtts(folder)
    codec = Codec(folder, xtts)
    splits = prepare(options, xtts, codec, say)
    if main:
        save_options(options, out)
        write_text(out / "data.md", "\n".join(report.markdown() for report in splits.reports.values()))
    trainer = _make_trainer(options, xtts, VoiceCollator(codec.mel_norms), splits, say)
    del codec
    say("Computing the losses of the base model")
    before = _losses_before(trainer, options, splits, main)
    last = last_complete_checkpoint(checkpoint_folder(options)) if options.resume else None
    say(f"Training {trainer.args.max_steps} steps" + (f", from {Path(last).name}" if last else ""))
    set_seed(options.seed)  # whether or not the losses before were computed
    with explain_out_of_memory(options):
        trainer.train(resume_from_checkpoint=last)
    after = _losses(trainer, splits)
    history = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    _refuse_divergence(options, after, history)
    trainer.accelerator.wait_for_everyone()
    if not main:
        return {}
    say(f"Writing {out}")
    _save(options, folder, trainer, xtts)
    report = {
        "options": _public(options),
        "data": splits.data,
        "rows": {name: len(getattr(splits, name)) for name in ("train", "validation", "test")},
        "before": before,
        "after": after,
        "history": history,
        "machine": machine(),
    }
    write_json(out / "report.json", report)
    write_card(report, out)
    if options.push_to_hub:
        say(f"Pushing to {options.push_to_hub}")
        push(out, options.push_to_hub)
    return report


def _make_trainer(options: VoiceOptions, xtts, collator: VoiceCollator, splits: VoiceSplits, say) -> VoiceTrainer:
    """Return the trainer of a voice, on the schedule of the whole training."""
    set_seed(options.seed)  # of the LoRA matrices
    precision = precision_of(options)
    model = add_training(xtts, options, precision == "bfloat16")
    rows_per_step = options.batch_size * options.accumulate * PartialState().num_processes
    steps = options.max_steps or max(1, round(options.epochs * len(splits.train) / rows_per_step))
    epoch = max(1, -(-len(splits.train) // rows_per_step))
    read_back = None
    if splits.validation and options.read_back and PartialState().is_main_process:
        say(f"Loading {options.asr}, which reads back what the voice says")
        read_back = ReadBack(xtts, model, collator.mel, splits.validation, options)
    early = [EarlyStopping(options.patience)] if splits.validation else []
    return VoiceTrainer(
        model=model,
        args=training_arguments(options, steps, min(options.evaluate_every or epoch, steps), precision),
        train_dataset=ClipDataset.for_training(splits.train, rows_per_step, steps, options.seed),
        eval_dataset=ClipDataset.for_evaluation(splits.validation) if splits.validation else None,
        data_collator=collator,
        callbacks=[CheckpointCallback(lowest_loss), StopOnSigterm(say), *early],
        read_back=read_back,
    )


def _losses(trainer: VoiceTrainer, splits: VoiceSplits) -> dict[str, dict]:
    """Return the losses of the validation and the test, of those that there are."""
    sets: dict[str, list[Clip]] = {"validation": splits.validation, "test": splits.test}
    return {name: trainer.losses(ClipDataset.for_evaluation(clips)) for name, clips in sets.items() if clips}


def _losses_before(trainer: VoiceTrainer, options: VoiceOptions, splits: VoiceSplits, main: bool) -> dict[str, dict]:
    """Compute the losses before training, or read those of the run that is resumed."""
    path = Path(options.out, BEFORE)
    if options.resume and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    before = _losses(trainer, splits)
    if main:
        write_json(path, before)
    return before


def _refuse_divergence(options: VoiceOptions, after: dict[str, dict], history: list[dict]) -> None:
    """Refuse to write a voice whose loss is no number.

    Raises:
        ValueError: the training diverged.
    """
    found = [losses["loss"] for losses in after.values()] or [history[-1]["loss"]]
    if not all(map(math.isfinite, found)):
        raise ValueError(
            f"the training diverged: its loss is {found[0]}, so no voice was written. Train into another --out with a "
            f"--learning-rate below {options.peak_learning_rate:g}, or with --warmup."
        )


def _save(options: VoiceOptions, base: Path, trainer: VoiceTrainer, xtts) -> None:
    """Write the voice, and the adapter if it was trained; what was trained in 16 bits is merged in float32."""
    out, model = Path(options.out), trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        model.peft_config[model.active_adapter].base_model_name_or_path = public_name(options.model)
        model.save_pretrained(str(out / "adapter"), save_embedding_layers=False)  # else peft asks the Hub
        xtts = load_xtts(base)
        merge_into(xtts, out / "adapter")
    write_checkpoint(xtts.cpu(), read_speakers(base), out)


def _public(options: VoiceOptions) -> dict:
    """Return the options without the folders of this machine, since a report may be published."""
    values = {name: getattr(options, name) for name in vars(options)}
    return {
        name: os.path.basename(value.rstrip("/")) if isinstance(value, str) and os.path.isabs(value) else value
        for name, value in values.items()
    }
