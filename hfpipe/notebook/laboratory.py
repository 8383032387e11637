"""Functions of the laboratory notebook: choose models, time the stages, clone a voice, and evaluate the result."""

import contextlib
import csv
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutomaticSpeechRecognitionPipeline

from ..cli.machine import MODELS
from ..loading import load
from ..offline.repo import offline_repo
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
from ..pipeline.hub_access import hub_reachable

# By the minimum GPU memory in GB for both models and XTTS, as in `cli.machine.models_that_fit`; 0 is for the CPU.
MODELS_BY_VRAM = {
    12: {"model": "openai/whisper-large-v3-turbo", "llm": "Qwen/Qwen2.5-3B-Instruct"},
    6: {"model": "openai/whisper-small", "llm": "Qwen/Qwen2.5-1.5B-Instruct"},
    0: {"model": "openai/whisper-base", "llm": "google/flan-t5-base"},
}
VOICE = "coqui/XTTS-v2"


def choose_models(model: str = "auto", llm: str = "auto", tts: str = "auto") -> dict[str, str]:
    """Return a model for each argument of `hfpipe.load`, chosen by the available GPU memory unless given.

    Args:
        model, llm, tts: a Hub id or a folder, "offline" for that part of the offline repo, or "auto" for the largest
            model that fits, or the offline one if the Hub can't be reached.

    Returns:
        A Hub id or folder for each of "model", "llm" and "tts".
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
    """Time the block in seconds, print the time, and store it in `seconds` under the name of the stage."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
    print(f"{name}: {seconds[name]:.2f} s")


def ensure_16k_mono(audio, path) -> Path:
    """Convert any audio that `load_audio` accepts to a 16 kHz mono 16-bit PCM WAV file, and return its path."""
    samples, rate = load_audio(audio, SAMPLING_RATE)
    write_wav(path, samples, rate)
    return Path(path)


@contextlib.contextmanager
def suggest_smaller(model: str) -> Iterator[None]:
    """Turn a failure to load or run a Whisper into a RuntimeError that suggests the next smaller one."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        sizes = list(MODELS["model"])
        smaller = sizes[max(0, sizes.index(model) - 1)] if model in sizes else "openai/whisper-small"
        raise RuntimeError(f"Whisper {model!r} failed ({error}). Try a smaller one: {smaller!r}.") from error


def speak_with_retry(speak: Callable, speaker_wav, language: str = "es"):
    """Call `speak(speaker_wav=..., language=...)`, and retry once in Spanish with a longer reference if it fails.

    Args:
        speak: a TTS model or a pipeline, with its other arguments bound.
        speaker_wav: recordings of the voice, in any form that `load_reference` accepts.
        language: ISO 639-1 code for the first attempt.

    Returns:
        The result of `speak`.

    Raises:
        ValueError, RuntimeError: the reference is unsuitable, or the second attempt failed as well.
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
    """Repeat the recordings of a voice until their total duration exceeds 10 s."""
    seconds = sum(len(reference.array) / reference.sampling_rate for reference in references)
    return references * (math.floor(REFERENCE_GOOD_SECONDS / seconds) + 1)


def asr_llm_tts_pipeline(input_wav, speaker_wav, lang: str = "es", *, pipe=None, folder=".") -> dict:
    """Answer a spoken question in a cloned voice and in the TTS model's own voice, timing each stage.

    Args:
        input_wav: the question, in any form that the pipeline accepts.
        speaker_wav: 10 to 15 s of the voice to clone, with the consent of its speaker.
        lang: ISO 639-1 code of the question and the answer.
        pipe: a `VoiceQAPipeline`; None loads the models that `choose_models` returns.
        folder: where to write `out_clone.wav` and `out_base.wav`.

    Returns:
        A JSON-serializable dict: the texts "text_transcript" and "llm_text"; their lengths "num_chars_in" and
        "num_chars_out"; the paths "clone_path" and "base_path"; the times in seconds "asr_time", "llm_time",
        "tts_clone_time", "tts_base_time" and "total_time"; "language"; and "cloned", which is False if the TTS model
        only approximates the reference voice.

    Raises:
        ValueError: no speech in `input_wav`, or an unsuitable `speaker_wav`. Also every exception of the pipeline.
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
    """Synthesize sentences, and write them as a table of recordings for fine-tuning.

    Args:
        sentences: the sentences, one recording each.
        tts: a TTS model that accepts `speaker=`, such as `Kokoro`.
        folder: created for `table.csv` and the recordings.
        speakers: names or blends of voices, used in turn; None is the model's default voice.
        language: ISO 639-1 code of the sentences.

    Returns:
        The path of the table, which has the columns audio, sentence and speaker.
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
    """Evaluate synthesized recordings: similarity to the reference voice, and the word error rate of Whisper on them.

    Args:
        voices: paths of the recordings by name.
        text: the text spoken in each of them.
        speaker_wav: a recording of the reference voice.
        asr: transformers' speech recognition pipeline with the Whisper to transcribe with.
        language: ISO 639-1 code of the text.

    Returns:
        For each recording, its name "voice", its duration "seconds", the cosine "similarity" (see
        `audio_speaker.similarity`), the transcript "heard", and "wer", the word error rate in percent. Both texts are
        lowercased, without punctuation, and normalized with `speakable`.

    Raises:
        ImportError: resemblyzer or jiwer isn't installed.
    """
    from ..read_back import read_back, word_error_rate  # jiwer belongs to an extra

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
                "wer": word_error_rate(text, heard, language),
            }
        )
    return measured
