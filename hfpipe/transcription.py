"""Transcribe recordings of any length to text or subtitles, resuming where a killed run stopped."""

import collections
import functools
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline

from .pipeline.asr_whisper import FALLBACK, encode, fixed_seed, language_probabilities
from .pipeline.audio import SAMPLING_RATE, load_audio
from .pipeline.audio_vad import find_speech
from .pipeline.files import write_text

FORMATS = ("txt", "srt", "vtt", "json")
MAX_CHUNK_SECONDS = 28.0  # the rest of Whisper's 30 s window keeps the last word from being cut off
LANGUAGE_SECONDS = 10  # of speech by which a language is detected, and the window in which Whisper hears it
LANGUAGE_CHANGE = 0.01  # probability that the language changes from one such stretch to the next
PADDING = 0.2  # seconds kept before and after the speech that the detector found


def transcribe_file(
    asr: AutomaticSpeechRecognitionPipeline,
    audio: str | os.PathLike,
    language: str | None = "es",
    *,
    batch_size: int = 4,
    partial: Path | None = None,
    on_progress: Callable[[float, float], None] = lambda done, total: None,
) -> dict:
    """Transcribe one recording of any length in chunks of speech; silence is skipped.

    Args:
        asr: transformers' speech recognition pipeline with a Whisper.
        audio: what `load_audio` takes.
        language: ISO 639-1 code; None detects it for every ten seconds of speech, so it may change.
        batch_size: chunks per batch.
        partial: file that keeps the chunks done so far; a later call with the same audio, model and language resumes
            from it. The caller removes it.
        on_progress: called with the seconds of audio that are done, and with the total.

    Returns:
        A dict with `audio`, `model`, `language` (None if it was to be detected and nobody speaks; of several the one
        that is spoken longest), `seconds`, `text`, and `segments`: dicts of `start`, `end` (seconds) and `text`, and
        of `language` if it was detected. If nothing was heard, `note` says so.

    Raises:
        FileNotFoundError, ValueError: what `load_audio` raises.
    """
    samples, _ = load_audio(audio, SAMPLING_RATE)
    seconds = len(samples) / SAMPLING_RATE
    on_progress(0.0, seconds)
    utterances = find_utterances(samples)
    model = str(asr.model.config.name_or_path)
    if language is None and asr.model.generation_config.is_multilingual:
        chunks = find_chunks_by_language(asr, samples, utterances)
    else:
        chunks = [(start, end, language or "en") for start, end in join_utterances(utterances, MAX_CHUNK_SECONDS)]
    key = {"samples": len(samples), "model": model, "language": language}
    done = _read_partial(partial, key)
    while len(done) < len(chunks):
        _, _, spoken = chunks[len(done)]
        same = itertools.takewhile(functools.partial(_is_in, spoken), chunks[len(done) : len(done) + batch_size])
        batch = [(start, end) for start, end, _ in same]
        for segments in transcribe_chunks(asr, samples, batch, spoken):
            done.append(segments if language else [{**segment, "language": spoken} for segment in segments])
        if partial:
            write_text(partial, "\n".join(json.dumps(line, ensure_ascii=False) for line in [key, *done]))
        on_progress(batch[-1][1] / SAMPLING_RATE, seconds)
    on_progress(seconds, seconds)
    segments = [segment for chunk in done for segment in chunk]
    spoken_seconds = collections.Counter()
    for start, end, spoken in chunks:
        spoken_seconds[spoken] += end - start
    result = {
        "audio": os.fspath(audio),
        "model": model,
        "language": language or next((spoken for spoken, _ in spoken_seconds.most_common(1)), None),
        "seconds": round(seconds, 2),
        "text": " ".join(segment["text"] for segment in segments),
        "segments": segments,
    }
    if not segments:
        why = "Whisper understood no word" if chunks else "nobody speaks in it"
        result["note"] = f"nothing was heard in {seconds:.1f} s: {why}"
    return result


def transcribe_files(
    asr: AutomaticSpeechRecognitionPipeline,
    files: list[str],
    output_format: str = "txt",
    out: Path | None = None,
    language: str | None = "es",
    on_progress: Callable[[str, float, float], None] = lambda name, done, total: None,
    *,
    overwrite: bool = False,
) -> Iterator[tuple[str, Path, Exception | None]]:
    """Write a transcript for each recording; those that exist are left as they are. One that is empty is warned about.

    Args:
        output_format: one of `FORMATS`.
        out: folder for the transcripts; None writes each beside its recording.
        on_progress: called with the recording, its seconds that are done, and its length in seconds.
        overwrite: replace transcripts that exist.

    Yields:
        The recording, the path of its transcript, and the error that prevented it or None. One bad recording doesn't
        stop the others.

    Raises:
        ValueError: unknown format.
    """
    if output_format not in FORMATS:
        raise ValueError(f"the format is {output_format!r}; valid is {', '.join(FORMATS)}.")
    for file, target in targets(files, output_format, out).items():
        if target.exists() and not overwrite:
            yield file, target, None
            continue
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            result = transcribe_file(
                asr,
                file,
                language,
                partial=partial,
                on_progress=functools.partial(on_progress, file),
            )
            write_text(target, format_transcript(result, output_format))
            partial.unlink(missing_ok=True)
            if "note" in result:
                warnings.warn(f"{file}: {result['note']}.", stacklevel=2)
            yield file, target, None
        except (OSError, ValueError, RuntimeError) as error:
            yield file, target, error


def targets(files: list[str], output_format: str, out: Path | None = None) -> dict[str, Path]:
    """Return the path of each recording's transcript.

    The format's suffix replaces that of the recording, or is added to it where two names would clash. That of a URL
    goes to the current folder.
    """
    files = list(dict.fromkeys(files))
    names = {file: _path(file) for file in files}
    plain = {file: (out or name.parent) / f"{name.stem}.{output_format}" for file, name in names.items()}
    taken = list(plain.values())
    return {
        file: target if taken.count(target) == 1 else target.with_name(f"{names[file].name}.{output_format}")
        for file, target in plain.items()
    }


def describe_kept(text: Path, model: str, language: str | None) -> str:
    """Return by what other model or in what other language a JSON transcript was made; "" if by and in these."""
    try:
        made = json.loads(text.read_text(encoding="utf-8"))
        by, spoken = made.get("model"), made.get("language")
    except (OSError, ValueError, AttributeError):
        return ", but isn't a transcript"
    words = f", made by {by}" if by and by != model else ""
    return f"{words}, in {spoken!r}" if language and spoken and spoken != language else words


def find_utterances(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return where somebody speaks in a float32 waveform at 16 kHz, with some padding: (start, end) in samples."""
    padding = round(PADDING * SAMPLING_RATE)
    utterances: list[tuple[int, int]] = []
    for found in find_speech(samples, max_speech_duration_s=MAX_CHUNK_SECONDS - 2 * PADDING):
        start, end = max(0, found["start"] - padding), min(len(samples), found["end"] + padding)
        utterances.append((max(start, utterances[-1][1]) if utterances else start, end))
    return utterances


def join_utterances(utterances: list[tuple[int, int]], seconds: float) -> list[tuple[int, int]]:
    """Join neighboring utterances as long as they fit into so many seconds, pauses included; return (start, end)."""
    joined: list[tuple[int, int]] = []
    for start, end in utterances:
        if joined and end - joined[-1][0] <= seconds * SAMPLING_RATE:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def find_chunks(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return the chunks of speech in a float32 waveform at 16 kHz, none longer than `MAX_CHUNK_SECONDS`.

    Neighboring utterances share a chunk as long as they fit, so that Whisper transcribes them in context.

    Returns:
        (start, end) of each chunk in samples, in order.
    """
    return join_utterances(find_utterances(samples), MAX_CHUNK_SECONDS)


def find_chunks_by_language(
    asr: AutomaticSpeechRecognitionPipeline, samples: np.ndarray, utterances: list[tuple[int, int]]
) -> list[tuple[int, int, str]]:
    """Return the chunks of speech, each with utterances of one language alone.

    Whisper's detection errs in short stretches, so a change of language must be likelier than an error: of all
    sequences of languages the likeliest is taken (Viterbi's algorithm).

    Returns:
        (start, end, ISO 639-1 code) of each chunk, in samples.
    """
    stretches = join_utterances(utterances, LANGUAGE_SECONDS)
    languages, found = [], []
    for start, end in stretches:
        languages, probabilities = language_probabilities(asr, encode(asr, [samples[start:end]], LANGUAGE_SECONDS))
        found.append(probabilities[0])
    sequence = [languages[i] for i in likeliest_sequence(np.array(found), LANGUAGE_CHANGE)]
    chunks: list[tuple[int, int, str]] = []
    for spoken, run in itertools.groupby(zip(stretches, sequence, strict=True), key=lambda pair: pair[1]):
        ends = [stretch for stretch, _ in run]
        inside = [utterance for utterance in utterances if ends[0][0] <= utterance[0] < ends[-1][1]]
        chunks += [(start, end, spoken) for start, end in join_utterances(inside, MAX_CHUNK_SECONDS)]
    return chunks


def likeliest_sequence(probabilities: np.ndarray, change: float) -> list[int]:
    """Return the likeliest state of each step, by Viterbi's algorithm.

    Args:
        probabilities: float (steps, states).
        change: probability of going to another state, all others alike.
    """
    if not len(probabilities):
        return []
    scores = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    states = scores.shape[1]
    stay, leave = np.log1p(-change), np.log(change / max(1, states - 1))
    came_from = np.zeros(scores.shape, int)
    total = scores[0]
    for step in range(1, len(scores)):
        best = int(total.argmax())
        came_from[step] = np.where(total + stay >= total[best] + leave, np.arange(states), best)
        total = np.maximum(total + stay, total[best] + leave) + scores[step]
    sequence = [int(total.argmax())]
    for step in range(len(scores) - 1, 0, -1):
        sequence.append(int(came_from[step, sequence[-1]]))
    return sequence[::-1]


def format_transcript(result: dict, output_format: str) -> str:
    """Return what `transcribe_file` returned as plain text, SubRip, WebVTT or JSON."""
    if output_format == "json":
        return json.dumps(result, ensure_ascii=False, indent=2) + "\n"
    if output_format == "txt":
        return "".join(segment["text"] + "\n" for segment in result["segments"])
    decimal_marker = "," if output_format == "srt" else "."
    cues = ["WEBVTT\n"] if output_format == "vtt" else []
    for number, segment in enumerate(result["segments"], 1):
        times = " --> ".join(format_timestamp(segment[name], decimal_marker) for name in ("start", "end"))
        cues.append(f"{number}\n{times}\n{segment['text'].replace('-->', '→')}\n")
    return "\n".join(cues)


def format_timestamp(seconds: float, decimal_marker: str) -> str:
    """Return seconds as a subtitle timestamp: 3661.5 is 01:01:01,500."""
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{decimal_marker}{rest % 1000:03d}"


def _is_in(language: str, chunk: tuple[int, int, str]) -> bool:
    return chunk[2] == language


def _path(file: str) -> Path:
    """Return the path of a recording, which is a file's name alone for a URL."""
    if "://" not in file:
        return Path(file)
    return Path(PurePosixPath(unquote(urlsplit(file).path)).name or "audio")


def transcribe_chunks(
    asr: AutomaticSpeechRecognitionPipeline,
    samples: np.ndarray,
    chunks: list[tuple[int, int]],
    language: str,
    *,
    task: str = "transcribe",
    by_word: bool = False,
    prompt: str = "",
    temperature: float = 0.0,
) -> list[list[dict]]:
    """Transcribe a batch of chunks.

    Args:
        asr: transformers' speech recognition pipeline with a Whisper.
        samples: the recording, float32 (samples,) at 16 kHz.
        chunks: (start, end) of each, in samples.
        language: ISO 639-1 code of what is spoken.
        task: "transcribe", or "translate" to English.
        by_word: time each word, which takes a Whisper with `alignment_heads`, instead of each segment.
        prompt: text that Whisper takes for what was said before, and whose spelling it follows: names, terms.
        temperature: to begin with; where Whisper is unsure it is raised in steps of 0.2 up to 1, as openai/whisper
            does.

    Raises:
        ValueError: the prompt holds one of Whisper's special tokens.

    Returns:
        For each chunk its segments, or words: dicts of "start", "end" (seconds since the recording began) and "text".
    """
    generate_kwargs = {"num_beams": 1, **FALLBACK}
    if temperature:
        generate_kwargs["temperature"] = tuple(np.arange(temperature, 1 + 1e-6, 0.2).tolist())
    if prompt.strip():
        begin, *tokens = asr.tokenizer.get_prompt_ids(prompt).tolist()
        tokens = tokens[-(asr.model.config.max_target_positions // 2 - 1) :]  # all that Whisper was trained to take
        generate_kwargs["prompt_ids"] = torch.tensor([begin, *tokens], device=asr.device)
    if asr.model.generation_config.is_multilingual:
        generate_kwargs |= {"task": task, "language": language}
    with fixed_seed():
        outputs = asr(
            [samples[start:end].copy() for start, end in chunks],
            batch_size=len(chunks),
            return_timestamps="word" if by_word else True,
            generate_kwargs=generate_kwargs,
        )
    transcribed = []
    for output, (start, end) in zip(outputs, chunks, strict=True):
        offset, length = start / SAMPLING_RATE, (end - start) / SAMPLING_RATE
        segments = []
        for timed in output.get("chunks") or [{"timestamp": (0.0, None), "text": output["text"]}]:
            first, last = timed["timestamp"]
            first = min(first or 0.0, length)
            last = length if last is None else min(max(last, first), length)
            if text := timed["text"].strip():
                segments.append({"start": round(offset + first, 2), "end": round(offset + last, 2), "text": text})
        transcribed.append(segments)
    return transcribed


def _read_partial(partial: Path | None, key: dict) -> list[list[dict]]:
    """Read the chunks that a killed run had done, if audio, model and language are the same."""
    if partial is None or not partial.is_file():
        return []
    first, *done = partial.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in done] if json.loads(first) == key else []
