"""Fine-tune a Whisper on a table, from checking its rows to writing the report and model card."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from huggingface_hub import HfApi
from transformers import set_seed

from hfpipe.pipeline.asr_checkpoint import check_language
from hfpipe.pipeline.files import write_text

from .card import describe_base, public_name, write_card
from .checkpoints import CheckpointCallback, EarlyStopping, last_complete_checkpoint
from .collate import Collator, StreamedTrainingDataset, TrainingDataset, schedule_samples
from .evaluate import evaluate_rows, transcribe_rows
from .export import export_ct2
from .features import FeatureShards
from .lora import add_lora, scale_lora
from .normalize import normalizer
from .options import Options, save_options
from .prepare import Splits, prepare
from .report import make_report, write_json, write_report
from .score import normalized_counts, standard_error, total
from .termination import StopOnSigterm
from .trainer import WhisperTrainer, checkpoint_folder, explain_out_of_memory, training_arguments
from .whisper import load_whisper, locate

BEFORE = "before.json"
# What stays on this machine: large, or with its paths.
LOCAL = ("checkpoints/*", "tensorboard/*", "features/*", "codes/*", "read_back/*", "options.json", ".*", BEFORE)


def train_whisper(
    train: str | os.PathLike,
    test: str | os.PathLike | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    **fields,
) -> dict:
    """Fine-tune a Whisper on a table of audio and text, evaluate it before and after, and write it to a folder.

    The folder holds the model as transformers saves it, with `README.md` (the model card), `report.md` and
    `report.json`, `data.md` (the dropped rows), `tensorboard/`, and `checkpoints/`, which may be deleted.

    Args:
        train: a CSV of audio,sentence, or `org/name:config:split`.
        test: the same; None holds out a share of `train`.
        say: called with a description of each stage as it begins.
        **fields: the other fields of `Options`, such as `model`, `out` and `method`.

    Returns:
        The report, JSON-serializable; empty in all processes but the main one.

    Raises:
        OSError: a table, the model or the Hub can't be read, or the model can't be pushed.
        ValueError: an option or a table is invalid, or the test set shares audio with the training set.
        MemoryError: out of memory; the message lists the options to change.
    """
    options = Options(train=os.fspath(train), test=os.fspath(test) if test else None, **fields)
    main = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    say = say if main else lambda text: None
    out = Path(options.out)
    refuse_used_folder(options)
    whisper, processor = load_whisper(options.model)
    check_language(whisper, options.language)
    splits = prepare(options, whisper, processor, say)
    if main:
        save_options(options, out)
        _write_data(out, splits)
    say("Evaluating the base model")
    before = _evaluate_base(options, whisper, processor, splits, main)
    history = run(options, whisper, processor, splits, say)
    whisper, _ = load_whisper(out)
    say("Evaluating the fine-tuned model")
    after = evaluate_splits(options, whisper, processor, splits)
    if not main:
        return {}
    _write_data(out, splits)  # a streamed dataset has been read only now
    report = make_report(options, splits, before, after, history) | {"base": describe_base(locate(options.model))}
    write_report(report, out)
    write_card(report, out)
    if options.export:
        say("Exporting to CTranslate2")
        export_ct2(out, out / "ct2")
    if options.push_to_hub:
        say(f"Pushing to {options.push_to_hub}")
        push(out, options.push_to_hub)
    return report


def run(options: Options, whisper, processor, splits: Splits, say: Callable[[str], None]) -> list[dict]:
    """Train a loaded Whisper on prepared data, from the last complete checkpoint if resuming, and save it.

    Returns:
        The trainer's log: the loss, the learning rate and the validation's word error rate by step.
    """
    set_seed(options.seed)
    whisper.accepts_loss_kwargs = False  # Whisper accepts the number of tokens, but ignores it
    whisper.config.apply_spec_augment = options.spec_augment
    if options.method == "frozen-encoder":
        whisper.freeze_encoder()
    model = add_lora(whisper, options) if options.method == "lora" else whisper
    rows_per_step = options.batch_size * options.accumulate * PartialState().num_processes
    steps = options.max_steps or max(1, round(options.epochs * len(splits.train) / rows_per_step))
    epoch = steps if splits.stream else max(1, -(-len(splits.train) // rows_per_step))

    def validate() -> tuple[float, float]:
        rows, language = splits.validation, options.language
        transcripts = transcribe_rows(whisper, processor, rows, language, batch_size=options.batch_size)
        counts = normalized_counts(rows, transcripts, normalizer(language))
        return total(counts).rate, standard_error(counts)

    trainer = WhisperTrainer(
        model=model,
        args=training_arguments(options, whisper.config.d_model, steps, min(options.evaluate_every or epoch, steps)),
        train_dataset=_training_dataset(options, splits, rows_per_step, steps),
        data_collator=_collator(options, whisper, processor, splits),
        processing_class=processor,
        callbacks=[
            CheckpointCallback(),
            StopOnSigterm(say),
            *([EarlyStopping(options.patience)] if splits.validation else []),
        ],
        validate=validate,
        eval_dataset=splits.validation or None,
    )
    last = last_complete_checkpoint(checkpoint_folder(options)) if options.resume else None
    say(f"Training {steps} steps of {rows_per_step} rows" + (f", from {Path(last).name}" if last else ""))
    with explain_out_of_memory(options):
        trainer.train(resume_from_checkpoint=last)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        save(model, processor, options)
    trainer.accelerator.wait_for_everyone()
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_wer" in entry]


def save(model, processor, options: Options) -> None:
    """Write a trained Whisper to the output folder, LoRA matrices merged; each file appears whole or not at all."""
    out = Path(options.out)
    partial = out / f".saving.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    if options.method == "lora":
        scale_lora(model)
        base = public_name(options.model)  # peft would write the path of this machine
        model.peft_config[model.active_adapter].base_model_name_or_path = base
        model.get_base_model().name_or_path = model.config._name_or_path = base
        model.save_pretrained(partial / "adapter", save_embedding_layers=False)  # else peft asks the Hub for the base
        model = model.merge_and_unload()
    for name in ("voice_qa", "custom_pipelines"):  # of a voice-qa repo's config; its other models aren't here
        vars(model.config).pop(name, None)
    model.config.use_cache = True  # the trainer switched it off
    model.config.apply_spec_augment = False
    generation = model.generation_config
    generation.forced_decoder_ids = None
    if generation.is_multilingual:
        generation.language, generation.task = options.language, "transcribe"
    model.save_pretrained(partial)
    processor.tokenizer.save_pretrained(partial)
    processor.feature_extractor.save_pretrained(partial)
    for path in sorted(partial.rglob("*")):
        if path.is_file():
            target = out / path.relative_to(partial)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
    shutil.rmtree(partial)


def evaluate_splits(options: Options, whisper, processor, splits: Splits) -> dict:
    """Evaluate a Whisper on the test set, and on the other language and the long audio if given.

    Returns:
        The scores of `evaluate_rows`, with the transcripts as `heard`, under "test", "other language" and "long
        audio".
    """
    other = options.other.rpartition(":")[2] if options.other else ""
    sets = {
        "test": (splits.test, options.language),
        "other language": (splits.other, other),
        "long audio": (splits.long, options.language),
    }
    results = {}
    for name, (rows, language) in sets.items():
        if rows:
            scores, transcripts = evaluate_rows(whisper, processor, rows, language, batch_size=options.batch_size)
            results[name] = {**scores, "heard": transcripts}
    return results


def refuse_used_folder(options) -> None:
    """Refuse an output folder that already holds a training, unless it is to be resumed.

    Raises:
        ValueError: the folder is in use, or is a file.
    """
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder.")
    used = [name for name in ("options.json", "config.json", "checkpoints") if (out / name).exists()]
    if used and not options.resume:
        raise ValueError(f"--out {out} holds a training already ({', '.join(used)}): --resume it, or give another.")


def push(folder: Path, repo: str) -> None:
    """Upload a trained model with its card and report, but without its checkpoints, to a model repo on the Hub.

    Raises:
        OSError: the Hub can't be reached, or no token gives write access to the repo.
    """
    try:
        api = HfApi()
        api.create_repo(repo, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, ignore_patterns=LOCAL)
    except Exception as error:  # the Hub's client raises its own errors and httpx's
        excluded = " ".join(f"--exclude '{pattern}'" for pattern in LOCAL)
        raise OSError(
            f"could not push {folder} to {repo} ({type(error).__name__}: {error}). The trained model is complete in "
            f"{folder}: log in (hf auth login) and push it again with: hf upload {repo} {folder} {excluded}"
        ) from error


def _training_dataset(options: Options, splits: Splits, rows_per_step: int, steps: int):
    """Return the dataset of the whole training, in the order of its schedule."""
    full_windows = options.share_of_full_windows()
    if splits.stream:
        return StreamedTrainingDataset(splits.stream, rows_per_step, options.seed, full_windows)
    seconds = [row.seconds for row in splits.train]
    return TrainingDataset(splits.train, schedule_samples(seconds, rows_per_step, steps, options.seed, full_windows))


def _collator(options: Options, whisper, processor, splits: Splits) -> Collator:
    """Return the collator, after the main process has precomputed the features if asked to."""
    shards = None
    if options.preprocess:
        shards = FeatureShards(Path(options.out, "features"), splits.train, options.preprocess)
        with PartialState().main_process_first():
            shards.write(processor)
    return Collator(
        processor,
        whisper.config,
        options.language if whisper.generation_config.is_multilingual else None,
        timestamps=options.timestamps,
        noise=options.noise,
        speed=options.speed,
        features=shards,
    )


def _evaluate_base(options: Options, whisper, processor, splits: Splits, main: bool) -> dict:
    """Evaluate the model before training, or read the results of the run that is resumed."""
    path = Path(options.out, BEFORE)
    if options.resume and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    before = evaluate_splits(options, whisper, processor, splits)
    if main:
        write_json(path, before)
    return before


def _write_data(out: Path, splits: Splits) -> None:
    write_json(out / "data.json", {name: report.as_dict() for name, report in splits.reports.items()})
    write_text(out / "data.md", "\n".join(report.markdown() for report in splits.reports.values()))
