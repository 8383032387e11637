"""Configure the trainer of a voice: the loss, the arguments, and validation by the held-out loss."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl, TrainingArguments

from hfpipe.pipeline.errors import is_out_of_memory

from ..trainer import training_precision
from .batches import ClipDataset
from .options import VoiceOptions
from .xtts import AUDIO_WEIGHT, TEXT_WEIGHT, count_targets

LOSSES = ("text_loss", "audio_loss")


class VoiceTrainer(Trainer):
    """A Trainer whose loss is a mean over the targets of an optimizer step, and which validates by the held-out loss.

    Args:
        read_back: speaks held-out sentences with the model as it is, and returns their word error rate in percent.
    """

    control: TrainerControl
    loss_is_scaled_for_ga = True

    def __init__(self, *args, read_back: Callable[[int], float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.read_back = read_back

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Return the batches of an optimizer step, and how many targets each loss has in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = sum(count_targets(batch) for batch in batches)
        return batches, self.accelerator.gather(counts.to(device)[None]).sum(dim=0)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss of a batch: its part of coqui's loss of the whole optimizer step.

        The loss and its gradient are thus the same for one batch, for the same rows accumulated over several batches,
        and for several processes, whose gradients are averaged.
        """
        outputs = model(**inputs)
        if num_items_in_batch is None:
            return (outputs["loss"], outputs) if return_outputs else outputs["loss"]
        share = count_targets(inputs) / num_items_in_batch * self.accelerator.num_processes
        loss = TEXT_WEIGHT * share[0] * outputs["text_loss"] + AUDIO_WEIGHT * share[1] * outputs["audio_loss"]
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval", **options) -> dict:
        """Log the losses of the validation and, if sentences are read back, their word error rate."""
        found = self.losses(eval_dataset or self.eval_dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        if self.read_back and self.is_world_process_zero():
            metrics[f"{metric_key_prefix}_read_back_wer"] = self.read_back(self.state.global_step)
        self.accelerator.wait_for_everyone()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def losses(self, dataset: ClipDataset) -> dict[str, float]:
        """Return `loss`, `text_loss` and `audio_loss`, means over the targets of all clips, without dropout."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        sums = torch.zeros(2)
        counts = torch.zeros(2, dtype=torch.long)
        for batch in DataLoader(dataset, self.args.per_device_train_batch_size, collate_fn=self.data_collator):
            with self.accelerator.autocast():
                outputs = model(**self._prepare_inputs(batch))
            targets = count_targets(batch)
            sums += torch.stack([outputs[name].float().cpu() for name in LOSSES]) * targets
            counts += targets
        model.train(was_training)
        text, audio = (sums / counts).tolist()
        return {"loss": TEXT_WEIGHT * text + AUDIO_WEIGHT * audio, "text_loss": text, "audio_loss": audio}


def lowest_loss(history: list[dict]) -> int:
    """Return the step of the validation with the lowest loss."""
    return min((entry for entry in history if "eval_loss" in entry), key=lambda entry: entry["eval_loss"])["step"]


def training_arguments(options: VoiceOptions, steps: int, evaluate_every: int, precision: str) -> TrainingArguments:
    """Convert our options to the trainer's arguments.

    The optimizer is that of coqui's recipe for XTTS v2: AdamW with betas of 0.9 and 0.96 and a weight decay of 0.01,
    which spares norms and biases.

    Args:
        steps: total number of optimizer steps.
        evaluate_every: steps between validations and checkpoints.
        precision: as `training_precision` returns it.

    Raises:
        ImportError: the package of the experiment tracker isn't installed.
    """
    if options.log_to != "none" and importlib.util.find_spec(options.log_to) is None:
        extra = "'hfpipe[finetune]'" if options.log_to == "tensorboard" else options.log_to
        raise ImportError(f"--log-to {options.log_to} needs a package: pip install {extra}, or give --log-to none.")
    if options.log_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(options.out, "tensorboard"))
    if options.wandb_project:
        os.environ["WANDB_PROJECT"] = options.wandb_project
    on_gpu, validates = torch.cuda.is_available(), options.has_validation
    return TrainingArguments(
        output_dir=str(checkpoint_folder(options)),
        max_steps=steps,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        train_sampling_strategy="sequential",  # the dataset is the schedule
        learning_rate=options.peak_learning_rate,
        warmup_steps=round(options.warmup if options.warmup >= 1 else options.warmup * steps),
        optim="adamw_torch_fused",
        adam_beta2=0.96,
        weight_decay=0.01,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=not on_gpu,
        activation_checkpointing=options.checkpointing,
        ddp_find_unused_parameters=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=evaluate_every,
        save_strategy="steps",
        save_steps=evaluate_every,
        save_total_limit=None,  # `CheckpointCallback` deletes old checkpoints
        load_best_model_at_end=validates,
        metric_for_best_model="loss" if validates else None,
        greater_is_better=False if validates else None,
        restore_callback_states_from_checkpoint=True,  # the patience of early stopping
        logging_nan_inf_filter=False,  # a loss that is no number would be logged as 0
        logging_steps=options.log_every or max(1, min(10, steps // 20)),
        report_to=[] if options.log_to == "none" else [options.log_to],
        dataloader_num_workers=min(4, os.cpu_count() or 1) if on_gpu else 0,
        remove_unused_columns=False,
        label_names=[],
        accelerator_config={"dispatch_batches": False},
        seed=options.seed,
        data_seed=options.seed,
    )


def precision_of(options: VoiceOptions) -> str:
    """Return the precision of the forward pass; raises what `training_precision` does."""
    return training_precision(options.precision, torch.cuda.is_available())


def checkpoint_folder(options: VoiceOptions) -> Path:
    """Return the folder of a training's checkpoints."""
    return Path(options.out, "checkpoints")


@contextlib.contextmanager
def explain_out_of_memory(options: VoiceOptions) -> Iterator[None]:
    """Turn running out of memory into a message that says which options to change.

    Raises:
        MemoryError: lists the options, those that save most first.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        advice = [] if options.checkpointing else ["--checkpointing"]
        if options.batch_size > 1:
            advice.append(f"--batch-size 1 --accumulate {options.batch_size * options.accumulate}")
        how = f"with --resume: {'; '.join(advice)}. Or " if advice else ""
        anew = "--method lora, or " if options.method == "full" else ""
        detail = str(error).splitlines()[0] if str(error) else "no detail"
        raise MemoryError(
            f"out of memory while training {options.model} with {options.batch_size} rows at once. Give {how}with "
            f"another --out: {anew}a lower --max-seconds. ({detail})"
        ) from error
