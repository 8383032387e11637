"""End a training that is told to stop, by SIGTERM, with a checkpoint to resume from."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback

EXIT_STATUS = 128 + signal.SIGTERM  # as a shell reports it


class StopOnSigterm(TrainerCallback):
    """Write a checkpoint after the step in which SIGTERM comes, and then exit with status 143.

    Give it after `CheckpointCallback`, which marks the checkpoint as complete. transformers' own
    `enable_jit_checkpoint` calls no callback, and would leave it unmarked.

    Args:
        say: called with what happened.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None):
        self.say, self.is_asked = say, False
        self.handler: Any = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Take SIGTERM from now on."""
        if threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, args, state, control, **kwargs):
        """Ask for a checkpoint if SIGTERM came to any of the processes, which may be a step apart."""
        if PartialState().num_processes > 1:
            asked = torch.tensor(int(self.is_asked), device=PartialState().device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.is_asked = bool(asked)
        if self.is_asked:
            control.should_save = control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        """Exit once the checkpoint is complete."""
        if self.is_asked:
            PartialState().wait_for_everyone()
            self.say(f"Stopped by SIGTERM after step {state.global_step}; the same command with --resume goes on")
            raise SystemExit(EXIT_STATUS)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave SIGTERM as it was."""
        if self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)

    def _ask(self, number, frame) -> None:
        self.is_asked = True
