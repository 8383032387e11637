"""Train a Whisper on a table, from the check of its rows to its report and model card."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import set_seed

from .card import base_of, write_card
from .collate import Collator, Course, Stream, Utterances
from .evaluate import check_language, hear_rows, judge
from .export import export_ct2
from .features import Shards
from .normalise import normaliser
from .options import Options, remember
from .prepare import Sets, prepare
from .report import make_report, write_json, write_report
from .score import normalised_counts, standard_error, total
from .trainer import (
    Patience,
    WhisperTrainer,
    arguments,
    checkpoints,
    explain_out_of_memory,
    keep_share,
    last_whole_checkpoint,
    with_lora,
)
from .whisper import load_whisper, locate

BEFORE = "before.json"


def train_whisper(
    train: str | os.PathLike,
    test: str | os.PathLike | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    **options,
) -> dict:
    """Trains a Whisper on a table of audio and text, judges it before and after, and writes it to a folder.

    The folder is a Whisper as transformers saves one, with `README.md` (its model card), `report.md` and
    `report.json`, `data.md` (what was dropped), `tensorboard/`, and `checkpoints/`, which may be deleted.

    Args:
        train: a CSV of audio,sentence, or `org/name:config:split`.
        test: the same; None puts a share of `train` aside.
        say: is told of each stage.
        **options: the other fields of `Options`, such as `model`, `out` and `method`.

    Returns:
        The report, plain Python.

    Raises:
        OSError, ValueError: what was got, what is valid, what to do. MemoryError: which option to change.
    """
    options = Options(train=os.fspath(train), test=os.fspath(test) if test else None, **options)
    main = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    say = say if main else lambda text: None
    out = Path(options.out)
    refuse_used_folder(options)
    whisper, processor = load_whisper(options.model)
    check_language(whisper, options.language)
    sets = prepare(options, whisper, processor, say)
    if main:
        remember(options, out)
        _write_data(out, sets)
    say("Judging the model as it is")
    before = _judge_before(options, whisper, processor, sets, main)
    history = run(options, whisper, processor, sets, say)
    whisper, _ = load_whisper(out)
    say("Judging the model as it has become")
    after = judge_all(options, whisper, processor, sets)
    if not main:
        return {}
    _write_data(out, sets)  # of a stream, all is known only now
    report = make_report(options, sets, before, after, history) | {"base": base_of(locate(options.model))}
    write_report(report, out)
    write_card(report, out)
    if options.export:
        say("Exporting to CTranslate2")
        export_ct2(out, out / "ct2")
    if options.push_to_hub:
        say(f"Pushing to {options.push_to_hub}")
        push(out, options.push_to_hub)
    return report


def run(options: Options, whisper, processor, sets: Sets, say: Callable[[str], None]) -> list[dict]:
    """Trains a loaded Whisper on prepared sets, from the last whole checkpoint on if that is asked for, and saves it.

    Returns:
        The trainer's log: the loss, the learning rate and the validation's word error rate by step.
    """
    set_seed(options.seed)
    whisper.accepts_loss_kwargs = False  # Whisper takes the count of tokens and ignores it
    config = whisper.config
    config.apply_spec_augment = options.spec_augment
    if options.method == "frozen-encoder":
        whisper.freeze_encoder()
    learner = with_lora(whisper, options) if options.method == "lora" else whisper
    language = options.language if whisper.generation_config.is_multilingual else None
    shards = None
    if options.preprocess:
        shards = Shards(Path(options.out, "features"), sets.train, options.preprocess)
        with PartialState().main_process_first():
            shards.write(processor)
    collate = Collator(
        processor,
        config,
        language,
        timestamps=options.timestamps,
        noise=options.noise,
        speed=options.speed,
        features=shards,
    )
    processes = PartialState().num_processes
    rows_per_step = options.batch_size * options.accumulate * processes
    an_epoch = max(1, -(-len(sets.train) // rows_per_step))
    steps = options.max_steps or max(1, round(options.epochs * len(sets.train) / rows_per_step))
    course, data = None, Utterances(sets.train)
    if sets.stream:
        data, an_epoch = Stream(sets.stream, rows_per_step, options.seed, options.share_of_full_windows()), steps
    else:
        seconds = [row.seconds for row in sets.train]
        course = Course(seconds, rows_per_step, steps, options.seed, options.share_of_full_windows())

    def validate() -> tuple[float, float]:
        heard = hear_rows(whisper, processor, sets.validation, options.language, batch_size=options.batch_size)
        counts = normalised_counts(sets.validation, heard, normaliser(options.language))
        return total(counts).rate, standard_error(counts)

    trainer = WhisperTrainer(
        model=learner,
        args=arguments(options, config.d_model, steps, min(options.evaluate_every or an_epoch, steps)),
        train_dataset=data,
        data_collator=collate,
        processing_class=processor,
        callbacks=[Patience(options.patience)] if sets.validation else [],
        course=course,
        validate=validate,
        eval_dataset=sets.validation or None,
    )
    last = last_whole_checkpoint(checkpoints(options)) if options.resume else None
    say(f"Training {steps} steps of {rows_per_step} rows" + (f", from {Path(last).name} on" if last else ""))
    with explain_out_of_memory(options):
        trainer.train(resume_from_checkpoint=last)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        save(learner, processor, options)
    trainer.accelerator.wait_for_everyone()
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_wer" in entry]


def save(learner, processor, options: Options) -> None:
    """Writes a trained Whisper to the folder, with LoRA's matrices merged; each file appears whole or not at all."""
    out = Path(options.out)
    partial = out / f".saving.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    if options.method == "lora":
        keep_share(learner)
        learner.save_pretrained(partial / "adapter")
        learner = learner.merge_and_unload()
    for name in ("voice_qa", "custom_pipelines"):  # of a voice-qa repo, whose other parts aren't here
        vars(learner.config).pop(name, None)
    learner.config.use_cache = True  # the trainer switched it off
    learner.config.apply_spec_augment = False
    generation = learner.generation_config
    generation.forced_decoder_ids = None
    if generation.is_multilingual:
        generation.language, generation.task = options.language, "transcribe"
    learner.save_pretrained(partial)
    processor.tokenizer.save_pretrained(partial)
    processor.feature_extractor.save_pretrained(partial)
    for path in sorted(partial.rglob("*")):
        if path.is_file():
            target = out / path.relative_to(partial)
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
    shutil.rmtree(partial)


def judge_all(options: Options, whisper, processor, sets: Sets) -> dict:
    """Judges a Whisper on the test set, and on what it might forget.

    Returns:
        By name ("test", "other language", "long audio"): what `judge` gives, with the transcripts as `heard`.
    """
    other = options.other.rpartition(":")[2] if options.other else ""
    asked = {
        "test": (sets.test, options.language),
        "other language": (sets.other, other),
        "long audio": (sets.long, options.language),
    }
    found = {}
    for name, (rows, language) in asked.items():
        if rows:
            scores, heard = judge(whisper, processor, rows, language, batch_size=options.batch_size)
            found[name] = {**scores, "heard": heard}
    return found


def refuse_used_folder(options: Options) -> None:
    """Refuses to train into a folder that holds a training, unless it is to be resumed.

    Raises:
        ValueError: says what to give instead.
    """
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder.")
    used = [name for name in ("options.json", "config.json", "checkpoints") if (out / name).exists()]
    if used and not options.resume:
        raise ValueError(f"--out {out} holds a training already ({', '.join(used)}): --resume it, or give another.")


def push(folder: Path, repo: str) -> None:
    """Uploads a trained Whisper with its card and report, but not its checkpoints, to a model repo on the Hub.

    Raises:
        OSError: the Hub can't be reached, or there is no token that may write there.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, exist_ok=True)
        ignored = ["checkpoints/*", "tensorboard/*", "features/*", "options.json", ".*", BEFORE]
        api.upload_folder(folder_path=folder, repo_id=repo, ignore_patterns=ignored)
    except Exception as error:  # the Hub's client raises its own, requests' and httpx's
        raise OSError(
            f"could not push {folder} to {repo} ({type(error).__name__}: {error}). The trained model is whole in "
            f"{folder}: log in (hf auth login) and push it again with: hf upload {repo} {folder}"
        ) from error


def _judge_before(options: Options, whisper, processor, sets: Sets, main: bool) -> dict:
    """Judges the model before it is trained, or reads what a run that was killed had found."""
    path = Path(options.out, BEFORE)
    if options.resume and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    before = judge_all(options, whisper, processor, sets)
    if main:
        write_json(path, before)
    return before


def _write_data(out: Path, sets: Sets) -> None:
    write_json(out / "data.json", {name: report.as_dict() for name, report in sets.reports.items()})
    (out / "data.md").write_text("\n".join(r.markdown() for r in sets.reports.values()), encoding="utf-8")
