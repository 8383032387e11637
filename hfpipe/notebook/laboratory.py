"""Run the voice laboratory: choose models that fit, time each stage, speak cloned and not, and measure both voices."""

import contextlib
import csv
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline, pipeline

from ..cli.machine import MODELS
from ..loading import load
from ..offline.repo import offline_repo
from ..pipeline.asr_whisper import FULL_WINDOW, prepare_whisper
from ..pipeline.audio import (
    REFERENCE_GOOD_SECONDS,
    SAMPLING_RATE,
    Reference,
    load_audio,
    load_question,
    load_reference,
    write_wav,
)
from ..pipeline.audio_speaker import similarity
from ..pipeline.hub_access import check_reachable, hub_reachable
from ..pipeline.text_speakable import speakable

# The GB of a GPU from which on these two and XTTS fit together, by `check.models_that_fit`; 0 is a CPU.
MODELS_BY_VRAM = {
    12: {"model": "openai/whisper-large-v3-turbo", "llm": "Qwen/Qwen2.5-3B-Instruct"},
    6: {"model": "openai/whisper-small", "llm": "Qwen/Qwen2.5-1.5B-Instruct"},
    0: {"model": "openai/whisper-base", "llm": "google/flan-t5-base"},
}
VOICE = "coqui/XTTS-v2"


def choose_models(model: str = "auto", llm: str = "auto", tts: str = "auto") -> dict[str, str]:
    """Chooses a model for each argument of `hfpipe.load` by the GPU's memory, where none is named.

    Args:
        model, llm, tts: a Hub id or a folder; "offline" is the part of the offline repo; "auto" the largest that
            fits, or where the Hub doesn't answer the offline one.

    Returns:
        An id or a folder by argument.
    """
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else 0
    fitting = next(models for least, models in MODELS_BY_VRAM.items() if gigabytes >= least) | {"tts": VOICE}
    chosen = {"model": model, "llm": llm, "tts": tts}
    if "auto" in chosen.values() and not hub_reachable():
        fitting = dict.fromkeys(chosen, "offline")
    chosen = {name: fitting[name] if value == "auto" else value for name, value in chosen.items()}
    folders = {"model": "", "llm": "llm", "tts": "tts"}
    return {
        name: os.path.join(offline_repo(), folders[name]).rstrip(os.sep) if value == "offline" else value
        for name, value in chosen.items()
    }


@contextlib.contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Times what is done in it, prints the seconds, and keeps them under the stage's name."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
    print(f"{name}: {seconds[name]:.2f} s")


def ensure_16k_mono(audio, path) -> Path:
    """Writes any audio that `load_audio` takes as a WAV of 16 kHz, mono, 16-bit PCM, and gives its path."""
    samples, rate = load_audio(audio, SAMPLING_RATE)
    write_wav(path, samples, rate)
    return Path(path)


def load_asr(model: str) -> AutomaticSpeechRecognitionPipeline:
    """Loads the stock speech recognition pipeline around a Whisper, on the GPU where there is one.

    Raises:
        OSError: it can't be reached or read.
    """
    check_reachable(model, None, "model")
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    asr = pipeline("automatic-speech-recognition", model=model, device=device)
    prepare_whisper(asr.model)
    return asr


@contextlib.contextmanager
def suggest_smaller(model: str) -> Iterator[None]:
    """Turns a failure of a Whisper, as it is loaded or hears, into a RuntimeError that names the next smaller one."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        sizes = list(MODELS["model"])
        smaller = sizes[max(0, sizes.index(model) - 1)] if model in sizes else "openai/whisper-small"
        raise RuntimeError(f"Whisper {model!r} failed ({error}). Try a smaller one: {smaller!r}.") from error


def speak_with_retry(speak: Callable, speaker_wav, language: str = "es"):
    """Calls `speak(speaker_wav=, language=)`; where the voice refuses, once more in Spanish with a longer reference.

    Args:
        speak: the voice part, or a pipeline, with what it is to say.
        speaker_wav: recordings of the voice, as `load_reference` takes them.

    Returns:
        What `speak` gives.

    Raises:
        ValueError, RuntimeError: the reference is unfit, or the second try failed as well.
    """
    references = load_reference(speaker_wav)
    try:
        return speak(speaker_wav=references, language=language)
    except (ValueError, RuntimeError) as error:
        warnings.warn(
            f"the voice failed ({error}). Trying again with language='es' and a reference of more than "
            f"{REFERENCE_GOOD_SECONDS:.0f} s.",
            stacklevel=2,
        )
        return speak(speaker_wav=lengthen(references), language="es")


def lengthen(references: list[Reference]) -> list[Reference]:
    """Repeats recordings of a voice until they last more than 10 s together."""
    seconds = sum(len(reference.array) / reference.sampling_rate for reference in references)
    return references * (math.floor(REFERENCE_GOOD_SECONDS / seconds) + 1)


def asr_llm_tts_pipeline(input_wav, speaker_wav, lang: str = "es", *, pipe=None, folder=".") -> dict:
    """Answers a spoken question in a cloned voice and in the voice's own, and says how long each stage took.

    Args:
        input_wav: the question, as a call of the pipeline takes it.
        speaker_wav: 10 to 15 s of the voice to clone, whose speaker agreed to it.
        lang: language code of question and answer.
        pipe: a `VoiceQAPipeline`; None loads what `choose_models` chooses.
        folder: where `out_clone.wav` and `out_base.wav` are written.

    Returns:
        Plain Python, ready for JSON: "text_transcript", "llm_text"; "num_chars_in", "num_chars_out"; "clone_path",
        "base_path"; seconds as "asr_time", "llm_time", "tts_clone_time", "tts_base_time" and "total_time";
        "language"; and "cloned", which is False where the voice part only comes near to the reference.

    Raises:
        ValueError: no speech in `input_wav`, or an unfit `speaker_wav`; also all that a call of the pipeline raises.
    """
    start = time.perf_counter()
    question = load_question(input_wav)
    pipe = load(**choose_models()) if pipe is None else pipe
    result = speak_with_retry(lambda **voice: pipe(question, compare=True, **voice), speaker_wav, lang)
    paths = {"clone_path": Path(folder, "out_clone.wav"), "base_path": Path(folder, "out_base.wav")}
    for path, key in zip(paths.values(), ("audio", "audio_base"), strict=True):
        write_wav(path, result[key], result["sampling_rate"])
    timings = result["timings"]
    return {
        "text_transcript": result["question"],
        "llm_text": result["answer"],
        "num_chars_in": len(result["question"]),
        "num_chars_out": len(result["answer"]),
        "language": result["language"],
        "cloned": result["cloned"],
        **{name: str(path) for name, path in paths.items()},
        "asr_time": timings["asr"],
        "llm_time": timings["llm"],
        "tts_clone_time": timings["tts"],
        "tts_base_time": timings["tts_base"],
        "total_time": time.perf_counter() - start,
    }


def speak_table(sentences: list[str], tts, folder, speakers: list | None = None, language: str = "es") -> Path:
    """Speaks sentences into recordings, and writes the table of them that a fine-tuning learns from.

    Args:
        sentences: what is said, one recording each.
        tts: a voice part that takes `speaker=`, such as `Kokoro`.
        folder: is made, for `table.csv` and its recordings.
        speakers: names or blends that take turns; None is the part's own voice.

    Returns:
        The path of the table, with the columns audio, sentence and speaker.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    speakers = speakers or [None]
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "sentence", "speaker"])
        for number, sentence in enumerate(sentences):
            turn = number % len(speakers)
            spoken = tts(sentence, language=language, speaker=speakers[turn])
            write_wav(folder / f"{number:03d}.wav", spoken, tts.sampling_rate)
            rows.writerow([f"{number:03d}.wav", sentence, turn])
    return folder / "table.csv"


def measure_voices(
    voices: dict[str, str], text: str, speaker_wav, asr: AutomaticSpeechRecognitionPipeline, language: str = "es"
) -> list[dict]:
    """Measures spoken answers: how like the reference each sounds, and how many words Whisper reads back wrong.

    Args:
        voices: paths of the recordings by name.
        text: what each of them says.
        speaker_wav: the reference voice.
        asr: the stock pipeline around the Whisper that reads back.

    Returns:
        For each voice "voice", "seconds", "similarity" (a cosine, see `speaker.similarity`), "heard" and "wer", the
        word error rate in percent: of lower-case words, numbers and signs in words as `speakable` writes them.

    Raises:
        ImportError: resemblyzer or jiwer is missing.
    """
    try:
        import jiwer
    except ImportError as error:
        raise ImportError("jiwer isn't installed: pip install 'hfpipe[lab]'") from error
    measured = []
    for name, path in voices.items():
        samples = load_audio(path, SAMPLING_RATE)[0]
        heard = read_back(samples, asr, language)
        measured.append(
            {
                "voice": name,
                "seconds": len(samples) / SAMPLING_RATE,
                "similarity": similarity(path, speaker_wav),
                "heard": heard,
                "wer": 100 * jiwer.wer(_words(text, language), _words(heard, language)),
            }
        )
    return measured


def read_back(samples: np.ndarray, asr: AutomaticSpeechRecognitionPipeline, language: str = "es") -> str:
    """Transcribes a float32 waveform of shape (samples,) at 16 kHz as the stock pipeline does, in windows of 30 s.

    The shorter windows of `transcribe` are faster, and cost some words: what is measured is the voice.
    """
    is_long = len(samples) > FULL_WINDOW * SAMPLING_RATE
    how = {"task": "transcribe", "language": language}
    return asr(samples, return_timestamps=is_long, generate_kwargs=how)["text"].strip()


def _words(text: str, language: str) -> str:
    return " ".join(re.findall(r"\w+", speakable(text, language).lower()))
