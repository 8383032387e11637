"""Transcribe recordings of any length to text or subtitles, resuming where a killed run stopped."""

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from transformers import AutomaticSpeechRecognitionPipeline

from ..pipeline.asr_whisper import FALLBACK, FULL_WINDOW, detect_languages, encode, fixed_seed
from ..pipeline.audio import SAMPLING_RATE, load_audio
from ..pipeline.audio_vad import find_speech
from ..pipeline.files import write_text

FORMATS = ("txt", "srt", "vtt", "json")
MAX_CHUNK_SECONDS = 28.0  # the rest of Whisper's 30 s window keeps the last word from being cut off
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
        language: ISO 639-1 code; None detects it in the first chunk.
        batch_size: chunks per batch.
        partial: file that keeps the chunks done so far; a later call with the same audio, model and language resumes
            from it. The caller removes it.
        on_progress: called with the seconds of audio that are done, and with the total.

    Returns:
        A dict with `audio`, `language`, `seconds`, `text`, and `segments`: dicts of `start`, `end` (seconds) and
        `text`.

    Raises:
        FileNotFoundError, ValueError: what `load_audio` raises.
    """
    samples, _ = load_audio(audio, SAMPLING_RATE)
    seconds = len(samples) / SAMPLING_RATE
    chunks = find_chunks(samples)
    if language is None and chunks:
        start, end = chunks[0]
        language = detect_languages(asr, encode(asr, [samples[start:end]], FULL_WINDOW))[0]
    key = {"samples": len(samples), "model": str(asr.model.config.name_or_path), "language": language}
    done = _read_partial(partial, key)
    for first in range(len(done), len(chunks), batch_size):
        batch = chunks[first : first + batch_size]
        done.extend(_transcribe_chunks(asr, samples, batch, language))
        if partial:
            write_text(partial, "\n".join(json.dumps(line, ensure_ascii=False) for line in [key, *done]))
        on_progress(batch[-1][1] / SAMPLING_RATE, seconds)
    on_progress(seconds, seconds)
    segments = [segment for chunk in done for segment in chunk]
    return {
        "audio": os.fspath(audio),
        "language": language,
        "seconds": round(seconds, 2),
        "text": " ".join(segment["text"] for segment in segments),
        "segments": segments,
    }


def transcribe_files(
    asr: AutomaticSpeechRecognitionPipeline,
    files: list[str],
    output_format: str = "txt",
    out: Path | None = None,
    language: str | None = "es",
    on_progress: Callable[[str, float, float], None] = lambda name, done, total: None,
) -> Iterator[tuple[str, Path, Exception | None]]:
    """Write a transcript for each recording; transcripts that exist are left as they are.

    Args:
        output_format: one of `FORMATS`.
        out: folder for the transcripts; None writes each beside its recording.
        on_progress: called with the recording, its seconds that are done, and its length in seconds.

    Yields:
        The recording, the path of its transcript, and the error that prevented it or None. One bad recording doesn't
        stop the others.

    Raises:
        ValueError: unknown format.
    """
    if output_format not in FORMATS:
        raise ValueError(f"the format is {output_format!r}; valid is {', '.join(FORMATS)}.")
    for file, target in targets(files, output_format, out).items():
        if target.exists():
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
            yield file, target, None
        except (OSError, ValueError, RuntimeError) as error:
            yield file, target, error


def targets(files: list[str], output_format: str, out: Path | None = None) -> dict[str, Path]:
    """Return the path of each recording's transcript.

    The format's suffix replaces that of the recording, or is added to it where two names would clash.
    """
    files = list(dict.fromkeys(files))
    plain = {file: (out or Path(file).parent) / f"{Path(file).stem}.{output_format}" for file in files}
    taken = list(plain.values())
    return {
        file: target if taken.count(target) == 1 else target.with_name(f"{Path(file).name}.{output_format}")
        for file, target in plain.items()
    }


def find_chunks(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return the chunks of speech in a float32 waveform at 16 kHz, none longer than `MAX_CHUNK_SECONDS`.

    Neighboring utterances share a chunk as long as they fit, so that Whisper transcribes them in context.

    Returns:
        (start, end) of each chunk in samples, in order.
    """
    found = find_speech(samples, max_speech_duration_s=MAX_CHUNK_SECONDS - 2 * PADDING)
    padding = round(PADDING * SAMPLING_RATE)
    chunks: list[tuple[int, int]] = []
    for utterance in found:
        start, end = max(0, utterance["start"] - padding), min(len(samples), utterance["end"] + padding)
        if chunks and end - chunks[-1][0] <= MAX_CHUNK_SECONDS * SAMPLING_RATE:
            chunks[-1] = (chunks[-1][0], end)
        else:
            chunks.append((max(start, chunks[-1][1]) if chunks else start, end))
    return chunks


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


def _transcribe_chunks(asr, samples, chunks, language) -> list[list[dict]]:
    """Transcribe a batch of chunks; return the segments of each, timed from the start of the recording."""
    generate_kwargs = {"num_beams": 1, **FALLBACK}
    if asr.model.generation_config.is_multilingual:
        generate_kwargs |= {"task": "transcribe", "language": language}
    with fixed_seed():
        outputs = asr(
            [samples[start:end].copy() for start, end in chunks],
            batch_size=len(chunks),
            return_timestamps=True,
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
