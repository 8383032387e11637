"""Write down what is said in recordings of any length, as text or subtitles, and go on where a killed run stopped."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline

from ..pipeline.asr_whisper import DRAW_AGAIN, FULL_WINDOW, detect_languages, encode, same_draws
from ..pipeline.audio import SAMPLING_RATE, SPEECH_THRESHOLD, _voice_activity_detector, load_audio
from ..pipeline.cpu_threads import threads

FORMATS = ("txt", "srt", "vtt", "json")
LONGEST = 28.0  # seconds of a stretch; what is left of the window keeps its end from being cut
PADDING = 0.2  # seconds around the speech that the detector found


def transcribe_file(
    asr: AutomaticSpeechRecognitionPipeline,
    audio: str | os.PathLike,
    language: str | None = "es",
    *,
    batch_size: int = 4,
    partial: Path | None = None,
    on_progress: Callable[[float, float], None] = lambda done, total: None,
) -> dict:
    """Transcribes one recording of any length, stretch of speech by stretch of speech; silence is never heard.

    Args:
        asr: the stock pipeline around a Whisper.
        audio: what `load_audio` takes.
        language: ISO 639-1 code; None detects it in the first stretch.
        batch_size: stretches at once.
        partial: a file that keeps what is done so far; a later call with the same audio, model and language goes on
            from there. It is left for the caller to remove.
        on_progress: is told the seconds of the audio that are done, and all of them.

    Returns:
        `audio`, `language`, `seconds`, `text`, and `segments`: dicts of `start`, `end` (seconds) and `text`.

    Raises:
        FileNotFoundError, ValueError: what `load_audio` raises.
    """
    samples, _ = load_audio(audio, SAMPLING_RATE)
    seconds = len(samples) / SAMPLING_RATE
    stretches = find_stretches(samples)
    if language is None and stretches:
        start, end = stretches[0]
        language = detect_languages(asr, encode(asr, [samples[start:end]], FULL_WINDOW))[0]
    key = {"samples": len(samples), "model": str(asr.model.config.name_or_path), "language": language}
    done = _read_partial(partial, key)
    for first in range(len(done), len(stretches), batch_size):
        batch = stretches[first : first + batch_size]
        done.extend(_hear(asr, samples, batch, language))
        if partial:
            _write(partial, "\n".join(json.dumps(line, ensure_ascii=False) for line in [key, *done]))
        on_progress(batch[-1][1] / SAMPLING_RATE, seconds)
    on_progress(seconds, seconds)
    segments = [segment for stretch in done for segment in stretch]
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
    form: str = "txt",
    out: Path | None = None,
    language: str | None = "es",
    on_progress: Callable[[str, float, float], None] = lambda name, done, total: None,
) -> Iterator[tuple[str, Path, Exception | None]]:
    """Writes one file of text for each recording; those that are written already are left as they are.

    Args:
        form: one of `FORMATS`.
        out: the folder for the texts; None puts each beside its recording.
        on_progress: is told the recording, its seconds that are done, and all of them.

    Yields:
        The recording, its file of text, and what went wrong with it, or None. One bad recording doesn't stop the rest.

    Raises:
        ValueError: no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"the format is {form!r}; valid is {', '.join(FORMATS)}.")
    for file, target in targets(files, form, out).items():
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
                on_progress=lambda done, total, file=file: on_progress(file, done, total),
            )
            _write(target, write_as(result, form))
            partial.unlink(missing_ok=True)
            yield file, target, None
        except (OSError, ValueError, RuntimeError) as error:
            yield file, target, error


def targets(files: list[str], form: str, out: Path | None = None) -> dict[str, Path]:
    """Names each recording's file of text: its name with the format's ending, or with both endings where two clash."""
    files = list(dict.fromkeys(files))
    plain = {file: (out or Path(file).parent) / f"{Path(file).stem}.{form}" for file in files}
    taken = list(plain.values())
    return {
        file: target if taken.count(target) == 1 else target.with_name(f"{Path(file).name}.{form}")
        for file, target in plain.items()
    }


def find_stretches(samples: np.ndarray) -> list[tuple[int, int]]:
    """Finds the stretches of speech in a float32 waveform at 16 kHz, none longer than Whisper hears at once.

    Neighbouring utterances share a stretch while they fit, so that Whisper hears them in context.

    Returns:
        The first and last sample of each, in order.
    """
    get_speech_timestamps, detector = _voice_activity_detector()
    with threads(1):  # its steps are too small to share
        found = get_speech_timestamps(
            torch.from_numpy(samples), detector, SPEECH_THRESHOLD, max_speech_duration_s=LONGEST - 2 * PADDING
        )
    padding = round(PADDING * SAMPLING_RATE)
    stretches = []
    for utterance in found:
        start, end = max(0, utterance["start"] - padding), min(len(samples), utterance["end"] + padding)
        if stretches and end - stretches[-1][0] <= LONGEST * SAMPLING_RATE:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((max(start, stretches[-1][1]) if stretches else start, end))
    return stretches


def write_as(result: dict, form: str) -> str:
    """Writes what `transcribe_file` gave as plain text, SubRip, WebVTT or JSON."""
    if form == "json":
        return json.dumps(result, ensure_ascii=False, indent=2) + "\n"
    if form == "txt":
        return "".join(segment["text"] + "\n" for segment in result["segments"])
    comma = "," if form == "srt" else "."
    cues = ["WEBVTT\n"] if form == "vtt" else []
    for number, segment in enumerate(result["segments"], 1):
        times = " --> ".join(clock(segment[name], comma) for name in ("start", "end"))
        cues.append(f"{number}\n{times}\n{segment['text'].replace('-->', '→')}\n")
    return "\n".join(cues)


def clock(seconds: float, comma: str) -> str:
    """Writes seconds as subtitles do: 3661.5 is 01:01:01,500."""
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{comma}{rest % 1000:03d}"


def _hear(asr, samples, stretches, language) -> list[list[dict]]:
    """Has the stock pipeline write down some stretches; gives the timed segments of each."""
    generate_kwargs = {"num_beams": 1, **DRAW_AGAIN}
    if asr.model.generation_config.is_multilingual:
        generate_kwargs |= {"task": "transcribe", "language": language}
    with same_draws():
        outputs = asr(
            [samples[start:end].copy() for start, end in stretches],
            batch_size=len(stretches),
            return_timestamps=True,
            generate_kwargs=generate_kwargs,
        )
    heard = []
    for output, (start, end) in zip(outputs, stretches, strict=True):
        offset, length = start / SAMPLING_RATE, (end - start) / SAMPLING_RATE
        segments = []
        for chunk in output.get("chunks") or [{"timestamp": (0.0, None), "text": output["text"]}]:
            first, last = chunk["timestamp"]
            first = min(first or 0.0, length)
            last = length if last is None else min(max(last, first), length)
            if text := chunk["text"].strip():
                segments.append({"start": round(offset + first, 2), "end": round(offset + last, 2), "text": text})
        heard.append(segments)
    return heard


def _read_partial(partial: Path | None, key: dict) -> list[list[dict]]:
    """Reads the stretches that a killed run had done, if it was about the same audio, model and language."""
    if partial is None or not partial.is_file():
        return []
    first, *done = partial.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in done] if json.loads(first) == key else []


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
