"""Run the optimiser: the loss by tokens, the best checkpoint by word error rate, checkpoints whole or not at all."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from .collate import IGNORED, Course
from .options import Options

WHOLE = "whole"  # the file that is written last into a checkpoint
# Between the base and the trained weights a model forgets less, and is hardly worse at what it learned: WiSE-FT
# (Wortsman et al. 2022, arXiv:2109.01903).
LORA_SHARE = 0.65
KEPT = 2  # checkpoints: the best and the last
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class WhisperTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer whose data come as a `Course`, and whose validation is a word error rate of real transcripts.

    Args:
        course: the draws of the whole training; None where the dataset is a stream.
        validate: gives the word error rate, in percent, of the model as it is now, and its standard error.
    """

    def __init__(self, *args, course: Course | None, validate: Callable[[], tuple[float, float]], **kwargs):
        super().__init__(*args, compute_loss_func=loss_by_token, **kwargs)
        self.course = course
        self.validate = validate

    def _get_train_sampler(self, train_dataset=None):
        return self.course

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval", **options) -> dict:
        """Transcribes the validation rows, and logs their word error rate."""
        rate, error = self.validate()
        metrics = {f"{metric_key_prefix}_wer": rate, f"{metric_key_prefix}_wer_error": error}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics, trial) -> bool:
        """Takes the last checkpoint within a standard error of the lowest rate for the best.

        A validation of some dozens of rows can't tell these apart, and the later has learned longer, at a lower rate
        (the rule of one standard error: Breiman et al. 1984; Hastie et al., The Elements of Statistical Learning,
        §7.10). Not where it stops early: a run that is resumed after that takes one more step before it stops again.
        """
        is_better = super()._determine_best_metric(metrics, trial)
        stops_early = self.control.should_training_stop and self.state.global_step < self.state.max_steps
        lowest = next(entry for entry in self.state.log_history if entry.get("eval_wer") == self.state.best_metric)
        if metrics["eval_wer"] <= lowest["eval_wer"] + lowest["eval_wer_error"] and not stops_early:
            self.state.best_global_step = self.state.global_step
        return is_better

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            _commit(folder)
            # Only now may an older one go: a run killed before the commit goes on from there.
            rotate_checkpoints(self.args.output_dir, KEPT, self.state.best_model_checkpoint)


def loss_by_token(outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
    """Gives the cross entropy of a batch, over the tokens of the whole optimiser step.

    So the loss and its gradient are the same for one batch, for the same rows accumulated from several, and for
    several processes. Whisper's own loss is a mean over its batch, which transformers 5.23 takes for a sum and
    multiplies by the accumulation steps (huggingface/transformers#47688).
    """
    logits = outputs.logits
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return loss / (labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def arguments(options: Options, width: int, steps: int, evaluate_every: int) -> Seq2SeqTrainingArguments:
    """Writes our options as the trainer's arguments.

    Args:
        width: the model's d_model, for the learning rate.
        steps: of the optimiser, in all.
        evaluate_every: steps between validations and checkpoints.

    Raises:
        ImportError: what was asked to draw the curves isn't installed.
        ValueError: a precision that this machine doesn't train in.
    """
    if options.log_to != "none" and importlib.util.find_spec(options.log_to) is None:
        extra = "'hfpipe[finetune]'" if options.log_to == "tensorboard" else options.log_to
        raise ImportError(f"--log-to {options.log_to} needs a package: pip install {extra}, or give --log-to none.")
    on_gpu = torch.cuda.is_available()
    precision = training_precision(options.precision, on_gpu)
    if options.log_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(options.out, "tensorboard"))
    choose = options.validation_share > 0
    return Seq2SeqTrainingArguments(
        output_dir=str(checkpoints(options)),
        max_steps=steps,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=options.peak_learning_rate(width),
        warmup_steps=max(1, round(options.warmup * steps)) if options.warmup else 0,
        optim="adamw_torch_fused",
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=not on_gpu,
        activation_checkpointing=options.checkpointing,
        eval_strategy="steps" if choose else "no",
        eval_steps=evaluate_every,
        save_strategy="steps",
        save_steps=evaluate_every,
        load_best_model_at_end=choose,
        metric_for_best_model="wer" if choose else None,
        greater_is_better=False if choose else None,
        restore_callback_states_from_checkpoint=True,  # or early stopping would forget its patience
        logging_steps=max(1, min(10, steps // 20)),
        report_to=[] if options.log_to == "none" else [options.log_to],
        dataloader_num_workers=min(4, os.cpu_count() or 1) if on_gpu else 0,
        remove_unused_columns=False,
        accelerator_config={"dispatch_batches": False},
        seed=options.seed,
        data_seed=options.seed,
    )


def training_precision(precision: str, on_gpu: bool) -> str:
    """Says in which precision a step multiplies: as asked for, or for "auto" in 16 bits where there are units for it.

    The weights, the loss and the optimiser stay float32. Nothing is timed: all processes of a training, and the one
    that goes on with it on this machine, must come to the same.

    Raises:
        ValueError: float16 without a GPU, whose small gradients would be lost unseen.
    """
    if precision == "auto" and on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "auto":
        has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bfloat16" if has_units else "float32"
    if precision == "float16" and not on_gpu:
        raise ValueError("--precision float16 needs a GPU; give bfloat16, float32 or auto.")
    return precision


class Patience(EarlyStoppingCallback):
    """Stops when the validation got no better for so long, and stops again if the run was killed after that."""

    def on_step_begin(self, args, state, control, **kwargs):
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


def checkpoints(options: Options) -> Path:
    """Names the folder of a training's checkpoints."""
    return Path(options.out, "checkpoints")


def last_whole_checkpoint(folder: Path) -> str | None:
    """Finds the last checkpoint written to its end, and removes those that weren't; None where there is none."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / WHOLE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


@contextlib.contextmanager
def explain_out_of_memory(options: Options):
    """Turns running out of memory into a message that says which option to change.

    Raises:
        MemoryError: with the options that save most, first.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error).lower() for text in OUT_OF_MEMORY):
            raise
        advice = []
        if options.batch_size > 1:
            half = options.batch_size // 2
            advice.append(f"--batch-size {half} --accumulate {options.accumulate * options.batch_size // half}")
        if not options.checkpointing:
            advice.append("--checkpointing")
        if options.method == "full":
            advice.append("--method lora")
        if options.share_of_full_windows():
            advice.append("--full-windows 0")
        advice.append("a smaller --model")
        raise MemoryError(
            f"out of memory while training {options.model} with {options.batch_size} rows at once. Give, in this "
            f"order: {'; '.join(advice)}. Then --resume. ({str(error).splitlines()[0] if str(error) else 'no detail'})"
        ) from error


def with_lora(whisper, options: Options):
    """Puts LoRA's matrices into a Whisper, which alone will learn.

    Raises:
        ValueError: a target that is none of its layers.
    """
    from peft import LoraConfig, get_peft_model

    targets = [target.strip() for target in options.lora_targets.split(",") if target.strip()]
    layers = {name.rpartition(".")[2] for name, layer in whisper.named_modules() if isinstance(layer, torch.nn.Linear)}
    if not targets or not set(targets) <= layers - {"proj_out"}:
        valid = ", ".join(sorted(layers - {"proj_out"}))
        raise ValueError(f"--lora-targets is {options.lora_targets!r}; valid are {valid}, separated by commas.")
    # No task_type: peft's wrapper for sequences passes Whisper inputs that it doesn't take.
    return get_peft_model(
        whisper,
        LoraConfig(
            r=options.lora_rank,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=targets,
        ),
    )


def keep_share(learner) -> None:
    """Keeps `LORA_SHARE` of what LoRA's matrices learned, by scaling the second of each pair."""
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            if ".lora_B." in name:
                parameter.mul_(LORA_SHARE)


def _commit(folder: Path) -> None:
    """Marks a checkpoint as whole, once all of its files are on the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (folder / WHOLE).touch()
