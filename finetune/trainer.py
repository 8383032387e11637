"""Configure the trainer: the loss, the arguments, the precision, and validation by word error rate."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerControl

from hfpipe.pipeline.errors import is_out_of_memory

from .collate import IGNORED, StreamedTrainingDataset
from .options import Options


class WhisperTrainer(Seq2SeqTrainer):
    """A Seq2SeqTrainer that validates by the word error rate of real transcripts.

    Args:
        validate: returns the current word error rate in percent, and its standard error in points.
    """

    control: TrainerControl

    def __init__(self, *args, validate: Callable[[], tuple[float, float]], **kwargs):
        super().__init__(*args, compute_loss_func=loss_per_token, **kwargs)
        self.validate = validate

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return dataset if isinstance(dataset, StreamedTrainingDataset) else super()._get_train_sampler(train_dataset)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval", **options) -> dict:
        """Transcribe the validation rows, and log their word error rate."""
        wer, error = self.validate()
        metrics = {f"{metric_key_prefix}_wer": wer, f"{metric_key_prefix}_wer_error": error}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def loss_per_token(outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
    """Return the cross-entropy of a batch, summed and divided by the number of label tokens in the optimizer step.

    The loss and its gradient are thus the same for one batch, for the same rows accumulated over several batches, and
    for several processes. Whisper's own loss is a mean over its batch, which transformers 5.23 takes for a sum and
    multiplies by the number of accumulation steps (huggingface/transformers#47688).
    """
    logits = outputs.logits
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return loss / (labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def training_arguments(options: Options, width: int, steps: int, evaluate_every: int) -> Seq2SeqTrainingArguments:
    """Convert our options to the trainer's arguments.

    Args:
        width: the model's d_model, for the learning rate.
        steps: total number of optimizer steps.
        evaluate_every: steps between validations and checkpoints.

    Raises:
        ImportError: the package of the experiment tracker isn't installed.
        ValueError: this machine can't train in the given precision.
    """
    if options.log_to != "none" and importlib.util.find_spec(options.log_to) is None:
        extra = "'hfpipe[finetune]'" if options.log_to == "tensorboard" else options.log_to
        raise ImportError(f"--log-to {options.log_to} needs a package: pip install {extra}, or give --log-to none.")
    on_gpu = torch.cuda.is_available()
    precision = training_precision(options.precision, on_gpu)
    if options.log_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(options.out, "tensorboard"))
    has_validation = options.validation_share > 0
    return Seq2SeqTrainingArguments(
        output_dir=str(checkpoint_folder(options)),
        max_steps=steps,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        train_sampling_strategy="sequential",  # the dataset is the schedule
        learning_rate=options.peak_learning_rate(width),
        warmup_steps=max(1, round(options.warmup * steps)) if options.warmup else 0,
        optim="adamw_torch_fused",
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=not on_gpu,
        activation_checkpointing=options.checkpointing,
        eval_strategy="steps" if has_validation else "no",
        eval_steps=evaluate_every,
        save_strategy="steps",
        save_steps=evaluate_every,
        save_total_limit=None,  # `CheckpointCallback` deletes old checkpoints
        load_best_model_at_end=has_validation,
        metric_for_best_model="wer" if has_validation else None,
        greater_is_better=False if has_validation else None,
        restore_callback_states_from_checkpoint=True,  # the patience of early stopping
        logging_steps=max(1, min(10, steps // 20)),
        report_to=[] if options.log_to == "none" else [options.log_to],
        dataloader_num_workers=min(4, os.cpu_count() or 1) if on_gpu else 0,
        remove_unused_columns=False,
        accelerator_config={"dispatch_batches": False},
        seed=options.seed,
        data_seed=options.seed,
    )


def training_precision(precision: str, on_gpu: bool) -> str:
    """Return the precision of the forward pass; "auto" is 16 bits where the hardware accelerates it.

    The weights, the loss and the optimizer stay float32. Nothing is timed, since all processes of a training, and a
    resumed one on the same machine, must choose the same precision.

    Raises:
        ValueError: float16 without a GPU, where small gradients would underflow unnoticed.
    """
    if precision == "auto" and on_gpu:
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "auto":
        capabilities = torch.cpu.get_capabilities()
        is_fast = capabilities.get("avx512_bf16") or capabilities.get("amx_tile")
        return "bfloat16" if is_fast else "float32"
    if precision == "float16" and not on_gpu:
        raise ValueError("--precision float16 needs a GPU; give bfloat16, float32 or auto.")
    return precision


def checkpoint_folder(options: Options) -> Path:
    """Return the folder of a training's checkpoints."""
    return Path(options.out, "checkpoints")


@contextlib.contextmanager
def explain_out_of_memory(options: Options) -> Iterator[None]:
    """Turn running out of memory into a message that says which options to change.

    Raises:
        MemoryError: lists the options, those that save most first.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        resumable, anew = [], []
        product = options.batch_size * options.accumulate
        smaller = max((size for size in range(1, options.batch_size // 2 + 1) if product % size == 0), default=0)
        if smaller:
            resumable.append(f"--batch-size {smaller} --accumulate {product // smaller}")
        if not options.checkpointing:
            resumable.append("--checkpointing")
        if options.method == "full":
            anew.append("--method lora")
        if options.share_of_full_windows():
            anew.append("--full-windows 0")
        anew.append("a smaller --model")
        how = f"with another --out: {'; '.join(anew)}"
        if resumable:
            how = f"with --resume: {'; '.join(resumable)}. Or {how}"
        raise MemoryError(
            f"out of memory while training {options.model} with {options.batch_size} rows at once. Give, in this "
            f"order, {how}. ({str(error).splitlines()[0] if str(error) else 'no detail'})"
        ) from error
