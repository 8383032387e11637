"""Compare our training with the usual recipe in one run: `python benchmarks/finetune.py --data DIR --json FILE`.

The baseline is the recipe of most tutorials: log-mel features of the full 30 s window, computed once and kept,
shuffled rows, float32, AdamW. Its duplicated start token is fixed here, for a fair word error rate. Both train the
same Whisper on the same number of rows, alternating every few steps, so that other load slows both down. The
baseline's features are computed before the timing starts; ours are computed from the files within it. Ours trains in
the precision that `--precision auto` chooses.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or this file would shadow the package finetune

import hfpipe  # noqa: E402, I001  # before torch: it makes idle threads sleep
import torch  # noqa: E402
import measure  # noqa: E402

from finetune.collate import Collator, TrainingDataset, encode_labels, pad_labels, schedule_samples  # noqa: E402
from finetune.data import Row, load, read_rows  # noqa: E402
from finetune.evaluate import check_whisper_rows, transcribe_rows  # noqa: E402
from finetune.normalize import normalizer  # noqa: E402
from finetune.options import Options  # noqa: E402
from finetune.score import normalized_counts, total  # noqa: E402
from finetune.trainer import loss_per_token, training_precision  # noqa: E402
from finetune.whisper import FULL_WINDOW, compute_features, load_whisper  # noqa: E402

LANGUAGE = "es"
TURN = 4  # consecutive steps of each
WARM_UP = 1  # turns that aren't timed


class Learner:
    """A Whisper with its optimizer and learning rate schedule."""

    def __init__(self, model: str, steps: int, precision: str = "float32", checkpointing: bool = False):
        self.in_bfloat16 = precision == "bfloat16"
        self.whisper, self.processor = load_whisper(model)
        self.whisper.train()
        if checkpointing:
            self.whisper.gradient_checkpointing_enable({"use_reentrant": False})
        rate = Options(train="-").peak_learning_rate(self.whisper.config.d_model)
        self.optimizer = torch.optim.AdamW(self.whisper.parameters(), lr=rate, fused=True)
        warmup = max(1, steps // 10)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
        )
        self.samples, self.seconds, self.losses = 0, 0.0, []

    def step(self, batch: dict, timed: bool) -> None:
        """Take an optimizer step on one batch, and count its rows and seconds if timed."""
        labels = batch.pop("labels")
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):  # as accelerate does for the trainer
            outputs = self.whisper(**batch)
        loss = loss_per_token(outputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.whisper.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))
        if timed:
            self.samples += len(labels)
            self.seconds += time.perf_counter() - start

    @property
    def speed(self) -> float:
        """Return the rows trained on per second."""
        return self.samples / self.seconds


def our_batches(learner: Learner, rows: list[Row], size: int, steps: int):
    """Yield our batches, computed from the audio files on demand."""
    options = Options(train="-")
    collate = Collator(learner.processor, learner.whisper.config, LANGUAGE, timestamps=options.timestamps)
    seconds, full_windows = [row.seconds for row in rows], options.share_of_full_windows()
    data = TrainingDataset(rows, schedule_samples(seconds, size, steps, options.seed, full_windows))
    for start in range(0, len(data), size):
        yield collate([data[i] for i in range(start, start + size)])


def baseline_batches(learner: Learner, rows: list[Row], size: int, steps: int):
    """Yield the baseline's batches, from features computed before the first."""
    features = [compute_features(learner.processor, [load(row)], FULL_WINDOW)[0] for row in rows]
    labels = [encode_labels(learner.processor, row.sentence, LANGUAGE) for row in rows]
    rng, order = random.Random(0), []
    for _ in range(steps):
        if len(order) < size:
            order = rng.sample(range(len(rows)), len(rows))
        batch, order = order[:size], order[size:]
        batch_labels = pad_labels([labels[i] for i in batch], learner.whisper.config)
        yield {"input_features": torch.stack([features[i] for i in batch]), **batch_labels}


def error_rate(learner: Learner, rows: list[Row], full_window: bool) -> float:
    """Return the normalized word error rate on the test set in percent."""
    transcripts = transcribe_rows(learner.whisper, learner.processor, rows, LANGUAGE, full_window=full_window)
    return total(normalized_counts(rows, transcripts, normalizer(LANGUAGE))).rate


def main() -> None:
    """Train both in turns, evaluate both, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    parser.add_argument("--model", default=None, help="a Whisper; by default the offline repo's base")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of each")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--checkpointing", action="store_true", help="use gradient checkpointing in the baseline")
    parser.add_argument("--no-wer", action="store_true", help="only measure the speed")
    parser.add_argument("--json", type=Path, help="file for the results; a plot is written next to it")
    options = parser.parse_args()
    model = options.model or hfpipe.offline_repo()
    precision = training_precision("auto", on_gpu=False)
    ours = Learner(model, options.steps, precision)
    baseline = Learner(model, options.steps, checkpointing=options.checkpointing)
    sets = {}
    for name in ("train", "test"):
        table = options.data / f"{name}.csv"
        sets[name] = check_whisper_rows(read_rows(table), str(table), ours.processor, LANGUAGE).kept
    sides = [
        (ours, our_batches(ours, sets["train"], options.batch_size, options.steps)),
        (baseline, baseline_batches(baseline, sets["train"], options.batch_size, options.steps)),
    ]
    for first in range(0, options.steps, TURN):
        for learner, batches in sides:
            for _ in range(min(TURN, options.steps - first)):
                timed = first >= WARM_UP * TURN
                start = time.perf_counter()
                batch = next(batches)
                learner.seconds += (time.perf_counter() - start) * (timed and learner is ours)
                learner.step(batch, timed)
        if ours.samples:
            print(f"step {first + TURN}: {ours.speed:.2f} and {baseline.speed:.2f} samples/s", flush=True)
    rows = [measure.Row("training speed", ours.speed, baseline.speed, "samples/s")]
    if not options.no_wer:
        short, full = (error_rate(ours, sets["test"], full_window) for full_window in (False, True))
        other = error_rate(baseline, sets["test"], full_window=True)
        rows.append(measure.Row("WER after as many rows, each in its training windows", short, other, "%"))
        rows.append(measure.Row("WER after as many rows, both in 30 s windows", full, other, "%"))
    title = f"{options.steps} steps of {options.batch_size} rows in {precision}, against the usual recipe in float32"
    measure.report(title, rows, options.json)


if __name__ == "__main__":
    main()
