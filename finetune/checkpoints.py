"""Choose the best checkpoint, keep only complete ones, and find the one to resume from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

COMPLETE_MARKER = "whole"  # empty file that is written last into a checkpoint


class CheckpointCallback(TrainerCallback):
    """Choose the best checkpoint, mark each one as complete, and keep only the best and the last.

    Args:
        choose: returns the step of the best one from the trainer's log.
    """

    def __init__(self, choose: Callable[[list[dict]], int] | None = None):
        self.choose = choose or best_step

    def on_save(self, args, state, control, **kwargs):
        """Finish the checkpoint that the trainer has just written.

        The choice doesn't change once training stops early: a run that is resumed after that takes one more step, and
        must end with the same weights.
        """
        folder = Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        stops_early = control.should_training_stop and state.global_step < state.max_steps
        if state.best_global_step and not stops_early:
            state.best_global_step = self.choose(state.log_history)
            best = folder.with_name(f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}")
            if best.is_dir():
                state.best_model_checkpoint = str(best)
        PartialState().wait_for_everyone()  # each process writes its own RNG state
        if args.should_save:
            state.save_to_json(str(folder / TRAINER_STATE_NAME))
            _mark_complete(folder)
            # Only now may older ones go: a run killed before this point resumes from them.
            _delete_others(folder, state.best_model_checkpoint)


class EarlyStopping(EarlyStoppingCallback):
    """Stop after `patience` validations without improvement, and again if the run is killed and resumed after that."""

    def on_step_begin(self, args, state, control, **kwargs):
        """Stop after this step if the patience was already exhausted when the checkpoint was written."""
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


def best_step(history: list[dict]) -> int:
    """Return the step of the last validation within one standard error of the lowest word error rate.

    A validation on a few dozen rows can't tell these checkpoints apart, and the later one has trained longer, at a
    lower learning rate (the one-standard-error rule: Breiman et al. 1984; Hastie et al., The Elements of Statistical
    Learning, §7.10).

    Args:
        history: the trainer's log; validations have `step`, `eval_wer` and `eval_wer_error`, in percent.
    """
    validations = [entry for entry in history if "eval_wer" in entry]
    lowest = min(validations, key=lambda entry: entry["eval_wer"])
    limit = lowest["eval_wer"] + lowest["eval_wer_error"]
    return max(entry["step"] for entry in validations if entry["eval_wer"] <= limit)


def last_complete_checkpoint(folder: Path) -> str | None:
    """Return the last complete checkpoint in a folder, or None, and delete the incomplete ones."""
    complete = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / COMPLETE_MARKER).exists():
            complete.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)  # another process may be deleting it too
    return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2]))) if complete else None


def _mark_complete(folder: Path) -> None:
    """Mark a checkpoint as complete, once all of its files are on disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (folder / COMPLETE_MARKER).touch()


def _delete_others(last: Path, best: str | None) -> None:
    """Delete every checkpoint but the last and the best."""
    for path in last.parent.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if path != last and (best is None or path != Path(best)):
            (path / COMPLETE_MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
