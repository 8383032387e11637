"""Schedule the rows of each training step, and turn them into batches of features and labels."""

import dataclasses
import random
from collections.abc import Callable, Iterator

import numpy as np
import soxr
import torch
from torch.utils.data import Dataset
from transformers import WhisperConfig, WhisperProcessor
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from hfpipe.pipeline.audio import SAMPLING_RATE

from .data import Row, load
from .whisper import FULL_WINDOW, PREFIX, compute_features, window_for

IGNORED = -100  # label index that the loss ignores
BUCKET = 64  # optimizer steps whose rows are sorted by length together
JITTER = 0.1  # of the lengths while sorting, so that a small dataset doesn't repeat the same batches
SPEEDS = (0.9, 1.1)  # as in Kaldi's speed perturbation (Ko et al. 2015)
SNR = (10.0, 30.0)  # dB
TIMESTAMP_STEP = 0.02  # seconds
PAUSES = (0.2, 0.8)  # seconds between rows that share a full window
FOLLOWER_TRIES = 12  # rows sampled to fill a full window


@dataclasses.dataclass(frozen=True)
class Sample:
    """A row at one place of the schedule: its index, the window in seconds, and the seed of its augmentation.

    `followers` are the indices of rows that follow it in the same full window, as sentences do in long audio.
    """

    index: int
    window: float
    seed: int
    followers: tuple[int, ...] = ()


def schedule_samples(
    seconds: list[float], rows_per_step: int, steps: int, seed: int, full_windows: float
) -> Iterator[Sample]:
    """Yield the samples of the whole training, step by step; they depend on the arguments alone.

    Rows are shuffled in every epoch, and no row is repeated before all were used. The rows of `BUCKET` steps are
    sorted by length, so that each step gets rows of similar length and a short window; then the steps are shuffled. A
    share of the steps uses the full window, where half of the rows are followed by others, so that the model keeps
    transcribing long audio well.

    Args:
        seconds: duration of each row.
        rows_per_step: batch size, times the accumulated batches, times the processes.
        full_windows: share of the steps that use the full window.
    """
    rng = random.Random(seed)
    waiting, step = [], 0
    while step < steps:
        while len(waiting) < rows_per_step:  # the rest of an epoch begins the next
            waiting += rng.sample(range(len(seconds)), len(seconds))
        size = rows_per_step * min(BUCKET, len(waiting) // rows_per_step, steps - step)
        bucket, waiting = waiting[:size], waiting[size:]
        for indices in _split_by_length(bucket, seconds, rows_per_step, rng):
            yield from _samples_of_step(indices, seconds, full_windows, rng, (seed, step))
            step += 1


class TrainingDataset(Dataset):
    """The rows in the order of the schedule; each item is the rows of a sample and the sample, for `Collator`."""

    def __init__(self, rows: list[Row], samples: Iterator[Sample]):
        self.rows = rows
        self.samples = list(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[list[Row], Sample]:
        sample = self.samples[i]
        return [self.rows[j] for j in (sample.index, *sample.followers)], sample


class StreamedTrainingDataset(Dataset):
    """Rows streamed from a dataset, scheduled within a buffer of `BUCKET` steps; items are as in `TrainingDataset`.

    It is its own sampler: what it yields is the index of an item and the item at once. So the process that trains
    reads the stream, in order and once, however many loader workers there are; they decode, augment and collate.

    Args:
        open_rows: returns an iterator over the usable rows; called again at its end.
        rows_per_step: batch size, times the accumulated batches, times the processes.
        full_windows: share of the steps that use the full window.
    """

    def __init__(self, open_rows: Callable[[], Iterator[Row]], rows_per_step: int, seed: int, full_windows: float):
        self.open_rows = open_rows
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.full_windows = full_windows

    def __getitem__(self, item: tuple[list[Row], Sample]) -> tuple[list[Row], Sample]:
        return item

    def __getstate__(self) -> dict:
        return {}  # a worker that is started anew needs nothing of the stream

    def __iter__(self) -> Iterator[tuple[list[Row], Sample]]:
        rng, step, buffer = random.Random(self.seed), 0, []
        while True:
            for row in self.open_rows():
                buffer.append(row)
                if len(buffer) < BUCKET * self.rows_per_step:
                    continue
                seconds = [row.seconds for row in buffer]
                for indices in _split_by_length(list(range(len(buffer))), seconds, self.rows_per_step, rng):
                    for sample in _samples_of_step(indices, seconds, self.full_windows, rng, (self.seed, step)):
                        yield [buffer[i] for i in (sample.index, *sample.followers)], sample
                    step += 1
                buffer = []
            if not step and not buffer:
                raise ValueError("the dataset has no usable row; see the report for what was dropped.")


class Collator:
    """Turn samples into a batch: features (rows, mels, frames), decoder inputs and labels (rows, tokens).

    The labels begin with the language and end with the end of text; only the decoder inputs have the start token.

    Args:
        config: of the Whisper being trained.
        language: ISO 639-1 code of the speech; None for an English-only Whisper.
        timestamps: share of rows whose text is labeled with timestamps, which long audio needs.
        noise: add white noise, 10 to 30 dB below the speech, to half of the rows.
        speed: change the speed of half of the rows by up to 10 %.
        features: returns the precomputed features of a row for a window; None computes them from the audio.
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

    def __call__(self, items: list[tuple[list[Row], Sample]]) -> dict[str, torch.Tensor]:
        window = items[0][1].window
        features, waveforms, labels = [], [], []
        for rows, sample in items:
            rng = np.random.default_rng(abs(sample.seed))
            if self.features:  # precomputed row by row, so no other row can follow
                features.append(self.features(rows[0], window))
                segments = [(rows[0], 0.0, rows[0].seconds)]
            else:
                samples, segments = self._concatenate(rows, rng, window)
                waveforms.append(samples)
            labels.append(encode_labels(self.processor, self._text(segments, rng), self.language))
        batch = torch.stack(features) if features else compute_features(self.processor, waveforms, window)
        return {"input_features": batch, **pad_labels(labels, self.config)}

    def _concatenate(self, rows, rng, window) -> tuple[np.ndarray, list[tuple[Row, float, float]]]:
        """Concatenate rows while they fit; return the samples, and each used row with its start and end in seconds."""
        pieces, segments, end, tokens = [], [], 0, PREFIX
        for row in rows:
            samples = self._augment(load(row), rng, window)
            start = end + round(rng.uniform(*PAUSES) * SAMPLING_RATE) if segments else 0
            tokens += len(encode_labels(self.processor, row.sentence, self.language))
            too_long = start + len(samples) > window * SAMPLING_RATE or tokens > self.config.max_target_positions
            if segments and too_long:
                break
            pieces += [np.zeros(start - end, np.float32), samples]
            end = start + len(samples)
            segments.append((row, start / SAMPLING_RATE, end / SAMPLING_RATE))
        return np.concatenate(pieces), segments

    def _text(self, segments: list[tuple[Row, float, float]], rng) -> str | list[tuple[str, float, float]]:
        """Return the text of segments, with their times if it is to be labeled with timestamps."""
        if rng.random() < self.timestamps or (len(segments) > 1 and self.timestamps > 0):
            return [(row.sentence, start, end) for row, start, end in segments]
        return " ".join(row.sentence for row, *_ in segments)

    def _augment(self, samples: np.ndarray, rng: np.random.Generator, window: float) -> np.ndarray:
        if self.speed and rng.random() < 0.5:
            resampled = soxr.resample(samples, SAMPLING_RATE, SAMPLING_RATE / rng.uniform(*SPEEDS))
            samples = resampled if len(resampled) <= window * SAMPLING_RATE else samples
        if self.noise and rng.random() < 0.5:
            level = np.sqrt(np.mean(samples**2)) / 10 ** (rng.uniform(*SNR) / 20)
            samples = samples + rng.normal(0, max(level, 1e-9), len(samples)).astype(np.float32)
        return samples.astype(np.float32, copy=False)


def encode_labels(
    processor: WhisperProcessor, text: str | list[tuple[str, float, float]], language: str | None
) -> list[int]:
    """Return the token ids that the decoder should produce: language, task, text, end of text.

    Args:
        text: a sentence; or sentences with their start and end in seconds, to be labeled with timestamps.
        language: ISO 639-1 code; None for an English-only Whisper, which has no language or task token.
    """
    tokenizer = processor.tokenizer
    prefix = [] if language is None else [f"<|{language}|>", "<|transcribe|>"]

    def encode(sentence: str) -> list[int]:
        return tokenizer(" " + sentence.strip(), add_special_tokens=False).input_ids  # Whisper's text begins with " "

    def timestamp(seconds: float) -> int:
        rounded = min(round(seconds / TIMESTAMP_STEP) * TIMESTAMP_STEP, FULL_WINDOW)
        return tokenizer.convert_tokens_to_ids(f"<|{rounded:.2f}|>")

    if isinstance(text, str):
        prefix, ids = [*prefix, "<|notimestamps|>"], encode(text)
    else:
        ids = [i for said, start, end in text for i in (timestamp(start), *encode(said), timestamp(end))]
    return [*tokenizer.convert_tokens_to_ids(prefix), *ids, tokenizer.eos_token_id]


def pad_labels(labels: list[list[int]], config: WhisperConfig) -> dict[str, torch.Tensor]:
    """Return the labels (rows, tokens), padded with `IGNORED`, and the decoder inputs: the labels shifted right."""
    padded = torch.full((len(labels), max(map(len, labels))), IGNORED)
    for row, ids in zip(padded, labels, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    inputs = shift_tokens_right(padded, config.pad_token_id, config.decoder_start_token_id)
    return {"decoder_input_ids": inputs, "labels": padded}


def _split_by_length(bucket: list[int], seconds: list[float], size: int, rng: random.Random) -> list[list[int]]:
    """Split row indices into steps of `size` rows of similar length, in random order."""
    bucket = sorted(bucket, key=lambda i: seconds[i] * rng.uniform(1 - JITTER, 1 + JITTER))
    steps = [bucket[start : start + size] for start in range(0, len(bucket), size)]
    rng.shuffle(steps)
    for step in steps:
        rng.shuffle(step)
    return steps


def _samples_of_step(
    indices: list[int], seconds: list[float], full_windows: float, rng: random.Random, key: tuple[int, int]
) -> Iterator[Sample]:
    """Yield the samples of one step, which share a window; `key` (seed, step) seeds their augmentation."""
    is_full = rng.random() < full_windows
    window = FULL_WINDOW if is_full else window_for(max(seconds[i] for i in indices))
    for place, i in enumerate(indices):
        followers = _sample_followers(i, seconds, rng) if window == FULL_WINDOW else ()
        yield Sample(i, window, hash((*key, place)), followers)


def _sample_followers(first: int, seconds: list[float], rng: random.Random) -> tuple[int, ...]:
    """Sample rows that fit into the full window after the first row; none for half of the rows."""
    if rng.random() < 0.5:
        return ()
    room, followers = FULL_WINDOW - seconds[first] - PAUSES[1], []
    for _ in range(FOLLOWER_TRIES):
        i = rng.randrange(len(seconds))
        if seconds[i] + PAUSES[1] <= room:
            followers.append(i)
            room -= seconds[i] + PAUSES[1]
    return tuple(followers)
