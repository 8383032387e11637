"""Decide what each training step hears, and turn its rows into features and labels when they are needed."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import soxr
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler
from transformers import WhisperConfig, WhisperProcessor
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from hfpipe.pipeline.audio import SAMPLING_RATE

from .data import Row, load
from .whisper import FULL_WINDOW, PREFIX, features_of, window_for

IGNORED = -100  # labels that the loss leaves out
BUCKET = 64  # optimiser steps whose rows are sorted by length together
JITTER = 0.1  # of the lengths while they are sorted, so that a small set doesn't give the same batches each time
SPEEDS = (0.9, 1.1)  # as Kaldi's speed perturbation (Ko et al. 2015)
NOISE_LEVELS = (10.0, 30.0)  # dB under the speech
TIMESTAMP_STEP = 0.02  # seconds
PAUSES = (0.2, 0.8)  # seconds between rows that share a full window
TRIES = 12  # rows that are tried for it


class Draw(NamedTuple):
    """What one row is in one step: which row, in a window of how many seconds, with which seed for its chances.

    `more` are rows that follow it in the same full window, as sentences do in long audio.
    """

    index: int
    window: float
    seed: int
    more: tuple[int, ...] = ()


class Course(Sampler):
    """The whole training as one sequence of draws, the same for the same seed however it is cut or resumed.

    Rows are shuffled anew each time round, and all heard before the next one begins. Those of `BUCKET` steps are then
    sorted by length, so that a step's rows have about the same and its window can be short, and the steps shuffled. A
    share of the steps keeps the full window, and half of its rows are followed there by others, so that the model goes
    on hearing long audio well.
    """

    def __init__(self, seconds: list[float], rows_per_step: int, steps: int, seed: int, full_windows: float):
        self.seconds = seconds
        self.rows_per_step = rows_per_step
        self.steps = steps
        self.seed = seed
        self.full_windows = full_windows

    def __len__(self) -> int:
        return self.steps * self.rows_per_step

    def __iter__(self) -> Iterator[Draw]:
        chance = random.Random(self.seed)
        waiting, step = [], 0
        while step < self.steps:
            while len(waiting) < self.rows_per_step:  # what is left of a round begins the next
                waiting += chance.sample(range(len(self.seconds)), len(self.seconds))
            size = self.rows_per_step * min(BUCKET, len(waiting) // self.rows_per_step, self.steps - step)
            bucket, waiting = waiting[:size], waiting[size:]
            for part in _steps(bucket, self.seconds.__getitem__, self.rows_per_step, chance):
                window = _window(max(self.seconds[i] for i in part), self.full_windows, chance)
                for place, i in enumerate(part):
                    more = _followers(i, self.seconds, chance) if window == FULL_WINDOW else ()
                    yield Draw(i, window, hash((self.seed, step, place)), more)
                step += 1


class Utterances(Dataset):
    """Rows by draw: `utterances[draw]` is its rows and the draw, which the collator turns into a part of a batch."""

    def __init__(self, rows: list[Row]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> tuple[list[Row], Draw]:
        return [self.rows[i] for i in (draw.index, *draw.more)], draw


class Stream(IterableDataset):
    """Rows as they come from a dataset that isn't on disk, sorted by length within a buffer of `BUCKET` steps.

    Args:
        open_rows: gives the usable rows from the first on; is called again when they are over.
    """

    def __init__(self, open_rows: Callable[[], Iterator[Row]], rows_per_step: int, seed: int, full_windows: float):
        self.open_rows = open_rows
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.full_windows = full_windows

    def __iter__(self) -> Iterator[tuple[list[Row], Draw]]:
        chance, step, buffer = random.Random(self.seed), 0, []
        while True:
            for row in self.open_rows():
                buffer.append(row)
                if len(buffer) < BUCKET * self.rows_per_step:
                    continue
                seconds = [row.seconds for row in buffer]
                for part in _steps(list(range(len(buffer))), seconds.__getitem__, self.rows_per_step, chance):
                    window = _window(max(seconds[i] for i in part), self.full_windows, chance)
                    for place, i in enumerate(part):
                        more = _followers(i, seconds, chance) if window == FULL_WINDOW else ()
                        yield [buffer[j] for j in (i, *more)], Draw(i, window, hash((self.seed, step, place)), more)
                    step += 1
                buffer = []
            if not step and not buffer:
                raise ValueError("the dataset gave no row that can be used; see what was dropped in the report.")


class Collator:
    """Turns rows and draws into a batch: features (rows, mels, frames), decoder inputs and labels (rows, tokens).

    The labels begin with the language and end with the end of text; the start token is only in the decoder's inputs.

    Args:
        config: of the Whisper that learns.
        language: ISO 639-1 code of what is said.
        timestamps: the share of rows whose text stands between timestamps, so that long audio goes on working.
        noise: whether some rows get white noise 10 to 30 dB under the speech.
        speed: whether some rows are said up to a tenth slower or faster.
        features: gives a row's features for a window where they were made before; None makes them of its audio.
    """

    def __init__(
        self,
        processor: WhisperProcessor,
        config: WhisperConfig,
        language: str | None,
        *,
        timestamps: float = 0.0,
        noise: bool = False,
        speed: bool = False,
        features: Callable[[Row, float], torch.Tensor] | None = None,
    ):
        self.processor = processor
        self.config = config
        self.language = language
        self.timestamps = timestamps
        self.noise = noise
        self.speed = speed
        self.features = features

    def __call__(self, items: list[tuple[list[Row], Draw]]) -> dict[str, torch.Tensor]:
        window = items[0][1].window
        features, waveforms, labels = [], [], []
        for rows, draw in items:
            chance = np.random.default_rng(abs(draw.seed))
            if self.features:  # which were made row by row, so none can follow another
                features.append(self.features(rows[0], window))
                spoken = [(rows[0], 0.0, rows[0].seconds)]
            else:
                samples, spoken = self._join(rows, chance, window)
                waveforms.append(samples)
            timed = chance.random() < self.timestamps or (len(spoken) > 1 and self.timestamps > 0)
            if timed:
                labels.append(label(self.processor, [(row.sentence, *times) for row, *times in spoken], self.language))
            else:
                labels.append(label(self.processor, " ".join(row.sentence for row, *_ in spoken), self.language))
        made = torch.stack(features) if features else features_of(self.processor, waveforms, window)
        return {"input_features": made, **self._pad(labels)}

    def _join(self, rows, chance, window) -> tuple[np.ndarray, list[tuple[Row, float, float]]]:
        """Puts rows one after the other while they fit; gives the samples, and when each row begins and ends."""
        pieces, spoken, end, tokens = [], [], 0, PREFIX
        for row in rows:
            samples = self._augment(load(row), chance, window)
            start = end + round(chance.uniform(*PAUSES) * SAMPLING_RATE) if spoken else 0
            tokens += len(label(self.processor, row.sentence, self.language))
            if spoken and (start + len(samples) > window * SAMPLING_RATE or tokens > self.config.max_target_positions):
                break
            pieces += [np.zeros(start - end, np.float32), samples]
            end = start + len(samples)
            spoken.append((row, start / SAMPLING_RATE, end / SAMPLING_RATE))
        return np.concatenate(pieces), spoken

    def _pad(self, labels: list[list[int]]) -> dict[str, torch.Tensor]:
        padded = torch.full((len(labels), max(map(len, labels))), IGNORED)
        for row, ids in zip(padded, labels, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        inputs = shift_tokens_right(padded, self.config.pad_token_id, self.config.decoder_start_token_id)
        return {"decoder_input_ids": inputs, "labels": padded}

    def _augment(self, samples: np.ndarray, chance: np.random.Generator, window: float) -> np.ndarray:
        if self.speed and chance.random() < 0.5:
            faster = soxr.resample(samples, SAMPLING_RATE, SAMPLING_RATE / chance.uniform(*SPEEDS))
            samples = faster if len(faster) <= window * SAMPLING_RATE else samples
        if self.noise and chance.random() < 0.5:
            level = np.sqrt(np.mean(samples**2)) / 10 ** (chance.uniform(*NOISE_LEVELS) / 20)
            samples = samples + chance.normal(0, max(level, 1e-9), len(samples)).astype(np.float32)
        return samples.astype(np.float32, copy=False)


def label(
    processor: WhisperProcessor, spoken: str | list[tuple[str, float, float]], language: str | None
) -> list[int]:
    """Turns what is said into the tokens that the decoder should write: language, task, text, end.

    Args:
        spoken: a sentence; or sentences with the seconds at which each begins and ends, to stand between timestamps.
        language: ISO 639-1 code; None for a Whisper of English alone, which writes neither language nor task.
    """
    tokenizer = processor.tokenizer
    marks = [] if language is None else [f"<|{language}|>", "<|transcribe|>"]

    def text(sentence: str) -> list[int]:
        return tokenizer(" " + sentence.strip(), add_special_tokens=False).input_ids  # Whisper writes a space first

    def mark(seconds: float) -> int:
        step = min(round(seconds / TIMESTAMP_STEP) * TIMESTAMP_STEP, FULL_WINDOW)
        return tokenizer.convert_tokens_to_ids(f"<|{step:.2f}|>")

    if isinstance(spoken, str):
        marks, tokens = [*marks, "<|notimestamps|>"], text(spoken)
    else:
        tokens = [token for said, start, end in spoken for token in (mark(start), *text(said), mark(end))]
    return [*tokenizer.convert_tokens_to_ids(marks), *tokens, tokenizer.eos_token_id]


def _followers(first: int, seconds: list[float], chance: random.Random) -> tuple[int, ...]:
    """Picks rows that fit into the full window after the first, for one row in two."""
    if chance.random() < 0.5:
        return ()
    room, picked = FULL_WINDOW - seconds[first] - PAUSES[1], []
    for _ in range(TRIES):
        i = chance.randrange(len(seconds))
        if seconds[i] + PAUSES[1] <= room:
            picked.append(i)
            room -= seconds[i] + PAUSES[1]
    return tuple(picked)


def _steps(bucket: list, length: Callable, size: int, chance: random.Random) -> list[list]:
    """Cuts a bucket, sorted by length, into steps of `size` rows, in a random order."""
    bucket = sorted(bucket, key=lambda item: length(item) * chance.uniform(1 - JITTER, 1 + JITTER))
    steps = [bucket[start : start + size] for start in range(0, len(bucket), size)]
    chance.shuffle(steps)
    for step in steps:
        chance.shuffle(step)
    return steps


def _window(seconds: float, full_windows: float, chance: random.Random) -> float:
    full = chance.random() < full_windows
    return FULL_WINDOW if full else window_for(seconds)
