"""Compare our training with the plain recipe, in one run: `python benchmarks/finetune.py --data DIR --json FILE`.

The peer is the recipe that most tutorials share: log-mel features of the full 30 s window, made once and kept,
shuffled rows, float32, AdamW. Its doubled start token is put right here, so that the word error rates compare what is
heard. Both train the same Whisper on as many rows, in turns of a few steps, so that a busy machine slows both. The
peer's features are made before the clock starts; ours are made from the files within it. Ours multiplies in what
`--precision auto` takes here.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or this file would be found as the package finetune

import hfpipe  # noqa: E402, I001  # before torch: it lets torch's waiting threads sleep
import torch  # noqa: E402
import measure  # noqa: E402

from finetune.collate import Collator, Course, Utterances, label  # noqa: E402
from finetune.data import Row, load, read_rows  # noqa: E402
from finetune.evaluate import check_whisper_rows, hear_rows  # noqa: E402
from finetune.normalise import normaliser  # noqa: E402
from finetune.options import Options  # noqa: E402
from finetune.score import normalised_counts, total  # noqa: E402
from finetune.trainer import loss_by_token, training_precision  # noqa: E402
from finetune.whisper import FULL_WINDOW, features_of, load_whisper  # noqa: E402

LANGUAGE = "es"
TURN = 4  # steps before the other one's turn
WARM_UP = 1  # turns that aren't timed


class Learner:
    """A Whisper with its optimiser; `step(batch)` is one step of it."""

    def __init__(self, model: str, steps: int, precision: str = "float32", checkpointing: bool = False):
        self.in_bfloat16 = precision == "bfloat16"
        self.whisper, self.processor = load_whisper(model)
        self.whisper.train()
        if checkpointing:
            self.whisper.gradient_checkpointing_enable({"use_reentrant": False})
        rate = Options(train="-").peak_learning_rate(self.whisper.config.d_model)
        self.optimiser = torch.optim.AdamW(self.whisper.parameters(), lr=rate, fused=True)
        warmup = max(1, steps // 10)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
        )
        self.samples, self.seconds, self.losses = 0, 0.0, []

    def step(self, batch: dict, timed: bool) -> None:
        """Learns from one batch, and counts its rows and seconds where it is timed."""
        labels = batch.pop("labels")
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):  # as accelerate does for the trainer
            outputs = self.whisper(**batch)
        loss = loss_by_token(outputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.whisper.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.losses.append(float(loss.detach()))
        if timed:
            self.samples += len(labels)
            self.seconds += time.perf_counter() - start

    @property
    def speed(self) -> float:
        """Gives the rows learned from in a second."""
        return self.samples / self.seconds


def our_batches(learner: Learner, rows: list[Row], size: int, steps: int):
    """Gives our batches, made from the files as they are asked for."""
    options = Options(train="-")
    collate = Collator(learner.processor, learner.whisper.config, LANGUAGE, timestamps=options.timestamps)
    draws = list(Course([row.seconds for row in rows], size, steps, options.seed, options.share_of_full_windows()))
    data = Utterances(rows)
    for start in range(0, len(draws), size):
        yield collate([data[draw] for draw in draws[start : start + size]])


def plain_batches(learner: Learner, rows: list[Row], size: int, steps: int):
    """Gives the plain recipe's batches, from features that are made before the first is asked for."""
    features = [features_of(learner.processor, [load(row)], FULL_WINDOW)[0] for row in rows]
    labels = [label(learner.processor, row.sentence, LANGUAGE) for row in rows]
    pad = Collator(learner.processor, learner.whisper.config, LANGUAGE)._pad
    chance, order = random.Random(0), []
    for _ in range(steps):
        if len(order) < size:
            order = chance.sample(range(len(rows)), len(rows))
        batch, order = order[:size], order[size:]
        yield {"input_features": torch.stack([features[i] for i in batch]), **pad([labels[i] for i in batch])}


def error_rate(learner: Learner, rows: list[Row], full_window: bool) -> float:
    """Hears the test; gives the normalised word error rate in percent."""
    heard = hear_rows(learner.whisper, learner.processor, rows, LANGUAGE, full_window=full_window)
    return total(normalised_counts(rows, heard, normaliser(LANGUAGE))).rate


def main() -> None:
    """Trains both in turns, judges both, prints the rows and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    parser.add_argument("--model", default=None, help="a Whisper; by default the offline repo's base")
    parser.add_argument("--steps", type=int, default=40, help="of each")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--checkpointing", action="store_true", help="the peer computes activations twice, as some do")
    parser.add_argument("--no-wer", action="store_true", help="measure the speed alone")
    parser.add_argument("--json", type=Path, help="where the rows go; a picture goes beside it")
    options = parser.parse_args()
    model = options.model or hfpipe.offline_repo()
    precision = training_precision("auto", on_gpu=False)
    ours = Learner(model, options.steps, precision)
    plain = Learner(model, options.steps, checkpointing=options.checkpointing)
    sets = {}
    for name in ("train", "test"):
        table = options.data / f"{name}.csv"
        sets[name] = check_whisper_rows(read_rows(table), str(table), ours.processor, LANGUAGE).kept
    sides = [
        (ours, our_batches(ours, sets["train"], options.batch_size, options.steps)),
        (plain, plain_batches(plain, sets["train"], options.batch_size, options.steps)),
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
            print(f"step {first + TURN}: {ours.speed:.2f} and {plain.speed:.2f} samples/s", flush=True)
    rows = [measure.Row("training speed", ours.speed, plain.speed, "samples/s")]
    if not options.no_wer:
        short, full = (error_rate(ours, sets["test"], full_window) for full_window in (False, True))
        peer = error_rate(plain, sets["test"], full_window=True)
        rows.append(measure.Row("WER after as many rows, each heard as it learned", short, peer, "%"))
        rows.append(measure.Row("WER after as many rows, both heard in windows of 30 s", full, peer, "%"))
    title = f"{options.steps} steps of {options.batch_size} rows in {precision}, against the usual recipe in float32"
    measure.report(title, rows, options.json)


if __name__ == "__main__":
    main()
