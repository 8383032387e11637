"""Benchmark speech recognition against faster-whisper and transformers: python benchmarks/asr.py --data DIR

All systems run the Whisper base of the offline repo, from an array of samples to text: log-mel spectrogram, encoder,
the search, and detokenization. The clips are real speech; longer ones are concatenations with half a second
of silence in between. faster-whisper runs without timestamps, and otherwise with its default options.
"""

import argparse
import contextlib
import csv
import functools
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from measure import Row, interleaved, median, report
from rich.progress import track

import hfpipe  # before torch, so that its idle threads sleep instead of spinning

# isort: split
import torch
from transformers import pipeline
from transformers.utils import logging

from hfpipe.offline.sources import WHISPER, WHISPER_CONFIG, WHISPER_TOKENIZER, read_source
from hfpipe.pipeline.asr_whisper import prepare_whisper, transcribe
from hfpipe.pipeline.audio import SAMPLING_RATE

LANGUAGE = "es"
LENGTHS = (2, 5, 10, 20, 30)  # seconds
TOLERANCE = 0.1  # clips may be this much shorter, as a fraction of the length
PAUSE = 0.5  # seconds of silence between concatenated clips
VOCABULARY = WHISPER_CONFIG._replace(  # required by CTranslate2
    path="data/vocabulary.txt",
    sha256="34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
)
KINDS, BEAMS = ("int8", "float32"), (1, 5)  # of faster-whisper

Clip = tuple[np.ndarray, str]
Hear = Callable[[np.ndarray], str]


def read_clips(folder: Path) -> list[Clip]:
    """Load the recordings written by es_mx.py with their transcripts, the test set first."""
    clips = []
    for name in ("test.csv", "train.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                clips.append((soundfile.read(folder / row["audio"], dtype="float32")[0], row["sentence"]))
    return [clip for clip in clips if plain(clip[1])]


def of_length(clips: list[Clip], seconds: float, number: int) -> list[Clip]:
    """Return the first clips of about a duration, supplemented by concatenations of shorter clips."""
    found, audio, sentences = [], np.zeros(0, np.float32), []
    pause = np.zeros(int(PAUSE * SAMPLING_RATE), np.float32)
    shortest, longest = (int(share * seconds * SAMPLING_RATE) for share in (1 - TOLERANCE, 1))
    found = [clip for clip in clips if shortest <= len(clip[0]) <= longest][:number]
    for samples, sentence in clips:
        if len(found) == number:
            break
        joined = np.concatenate([audio, pause, samples]) if len(audio) else samples
        if len(joined) > longest:
            continue
        audio, sentences = joined, [*sentences, sentence]
        if len(audio) >= shortest:
            found.append((audio, " ".join(sentences)))
            audio, sentences = np.zeros(0, np.float32), []
    return found


def our_ear(precision: str) -> Hear:
    """Return a function that transcribes as the voice-qa pipeline does."""
    asr = pipeline("automatic-speech-recognition", model=hfpipe.offline_repo(), device="cpu")
    prepare_whisper(asr.model, precision)

    def hear(audio: np.ndarray) -> str:
        with contextlib.suppress(ValueError):  # no speech was recognized
            return transcribe(asr, [audio], LANGUAGE)[0][0]
        return ""

    return hear


def stock_ear() -> Hear:
    """Return a function that transcribes with transformers' pipeline, by greedy search in windows of 30 s."""
    asr = pipeline("automatic-speech-recognition", model=hfpipe.offline_repo(), device="cpu", dtype=torch.float32)
    options = {"task": "transcribe", "language": LANGUAGE, "num_beams": 1}
    return lambda audio: asr(audio.copy(), generate_kwargs=options)["text"]


def faster_whisper_ears(threads: int) -> dict[str, Hear]:
    """Return functions that transcribe with faster-whisper, on the source weights of the offline repo."""
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.bin").write_bytes(b"".join(map(read_source, WHISPER)))
        for source in (WHISPER_CONFIG, WHISPER_TOKENIZER, VOCABULARY):
            Path(folder, Path(source.path).name).write_bytes(read_source(source))
        models = {kind: WhisperModel(folder, device="cpu", compute_type=kind, cpu_threads=threads) for kind in KINDS}

    def hear(audio: np.ndarray, kind: str, beams: int) -> str:
        options = {"language": LANGUAGE, "beam_size": beams, "without_timestamps": True}
        return "".join(segment.text for segment in models[kind].transcribe(audio, **options)[0])

    return {
        f"faster-whisper {kind}, beam {beams}": functools.partial(hear, kind=kind, beams=beams)
        for kind in KINDS
        for beams in BEAMS
    }


def plain(text: str) -> str:
    """Lowercase a text and remove punctuation and accents, which the reference transcripts rarely have."""
    letters = unicodedata.normalize("NFD", text.lower())
    letters = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
    return " ".join(re.findall(r"\w+", letters))


def error_rate(hear: Hear, clips: list[Clip]) -> float:
    """Return the word error rate of a transcription function in percent."""
    said, heard = zip(*[(plain(sentence), plain(hear(audio))) for audio, sentence in clips], strict=True)
    return 100 * jiwer.wer(list(said), list(heard))


def length_rows(ears: dict[str, Hear], clips: list[Clip], seconds: int, repeats: int) -> list[Row]:
    """Measure the time and word error rate of all systems on the same clips of about a duration."""
    spent = {name: [] for name in ears}
    for audio, _ in clips:
        calls = {name: functools.partial(hear, audio) for name, hear in ears.items()}
        for name, times in interleaved(calls, repeats).items():
            spent[name].append(median(times))
    rates = {name: error_rate(hear, clips) for name, hear in ears.items()}
    ours, *peers = ears
    times = {name: median(each) for name, each in spent.items()}
    rows = [Row(f"ASR on {seconds} s clips against {peer}", times[ours], times[peer], "s") for peer in peers]
    return rows + [Row(f"WER on {seconds} s clips against {peer}", rates[ours], rates[peer], "%") for peer in peers]


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that asr.py and wer.py share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder written by benchmarks/es_mx.py")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS, help="in seconds")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser


def main() -> None:
    """Run the benchmark, and print and write the results."""
    parser = new_parser(__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="output file for the rows; a chart is written next to it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=6, help="number of clips of each length")
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    clips = read_clips(options.data)
    ears = {
        "ours": our_ear(options.precision),
        **faster_whisper_ears(options.threads),
        "the stock pipeline": stock_ear(),
    }
    rows = []
    for seconds in track(options.lengths, description="Timing"):
        rows += length_rows(ears, of_length(clips, seconds, options.clips), seconds, options.repeats)
    report(f"Whisper base, {options.precision}, against its peers", rows, options.json)


if __name__ == "__main__":
    main()
