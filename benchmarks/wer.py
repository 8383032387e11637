"""Compare word error rates by the length of a recording: `python benchmarks/wer.py --data DIR`.

All the clips that es_mx.py wrote are heard at every length: those that fit are packed into recordings of at most so
many seconds, with half a second of silence between clips. All systems run the Whisper base of the offline repo.
Intervals are 95 % bootstrap intervals over recordings; that of a difference is paired: whether one system is worse on
the same recordings.
"""

import jiwer
import numpy as np
import torch
from asr import PAUSE, Clip, Hear, faster_whisper_ears, new_parser, our_ear, plain, read_clips, stock_ear
from measure import machine
from rich.console import Console
from rich.progress import track
from transformers.utils import logging

from hfpipe.pipeline.audio import SAMPLING_RATE
from hfpipe.pipeline.cpu_precision import choose_precision, fastest_for_prompts

RESAMPLES, SEED = 10_000, 0  # of the bootstrap
BEAM_SEARCH = "faster-whisper float32, beam 5"


def packed(clips: list[Clip], seconds: float) -> list[Clip]:
    """Return all clips of at most so many seconds, each recording filled with as many as fit, in order."""
    pause = np.zeros(int(PAUSE * SAMPLING_RATE), np.float32)
    recordings: list[Clip] = []
    for samples, sentence in clips:
        if len(samples) > seconds * SAMPLING_RATE:
            continue
        if recordings:
            joined = np.concatenate([recordings[-1][0], pause, samples])
            if len(joined) <= seconds * SAMPLING_RATE:
                recordings[-1] = joined, f"{recordings[-1][1]} {sentence}"
                continue
        recordings.append((samples, sentence))
    return recordings


def count_errors(hear: Hear, recordings: list[Clip], name: str) -> np.ndarray:
    """Return the word errors of each recording, of shape (recordings,)."""
    errors = []
    for samples, sentence in track(recordings, name, console=Console(stderr=True)):
        found = jiwer.process_words(plain(sentence), plain(hear(samples)))
        errors.append(found.substitutions + found.deletions + found.insertions)
    return np.array(errors)


def rate(errors: np.ndarray, words: np.ndarray, sign: str = "") -> str:
    """Format a word error rate, or a difference of two, in percent with its 95 % interval.

    Args:
        errors, words: of each recording, both of shape (recordings,).
        sign: "+" to show it.
    """
    drawn = np.random.default_rng(SEED).integers(len(words), size=(RESAMPLES, len(words)))
    low, high = np.percentile(errors[drawn].sum(axis=1) / words[drawn].sum(axis=1), (2.5, 97.5))
    mean = errors.sum() / words.sum()
    return f"{100 * mean:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def main() -> None:
    """Run the comparison and print a table."""
    options = new_parser(__doc__.splitlines()[0]).parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    clips = read_clips(options.data)
    ears = {
        "ours": our_ear(options.precision),
        "the stock pipeline": stock_ear(),
        BEAM_SEARCH: faster_whisper_ears(options.threads)[BEAM_SEARCH],
    }
    layers = {options.precision}
    if options.precision == "auto":
        layers = {fastest_for_prompts(), choose_precision("auto", None, torch.device("cpu"))}
    print(f"Word errors of Whisper base in percent, ours in {' and '.join(sorted(layers))}, on {machine()}\n")
    print("| recordings of at most | recordings | words |", *(f"{name} |" for name in ears))
    print("|---|---:|---:|", *("---:|" for _ in ears))
    for seconds in options.lengths:
        recordings = packed(clips, seconds)
        words = np.array([len(plain(sentence).split()) for _, sentence in recordings])
        errors = {name: count_errors(hear, recordings, f"{seconds} s, {name}") for name, hear in ears.items()}
        cells = [rate(each, words) for each in errors.values()]
        for i, name in enumerate(list(ears)[1:], 1):
            cells[i] += f"; ours {rate(errors['ours'] - errors[name], words, '+')}"
        print(f"| {seconds} s | {len(recordings)} | {words.sum()} |", *(f"{cell} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
