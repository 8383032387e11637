"""Speak many lines to a file each, in batches, resuming where a killed run stopped."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutomaticSpeechRecognitionPipeline

from .pipeline.asr_whisper import language_code
from .pipeline.audio import SAMPLING_RATE, Reference, load_audio, load_reference, resample, write_wav
from .pipeline.engine_protocols import ResolvesVoices, SpeaksBatches, SpeaksLanguages, SpeaksRegions
from .pipeline.errors import explain_out_of_memory
from .pipeline.files import write_text
from .pipeline.text_locale import base_language
from .pipeline.text_speakable import speakable
from .pipeline.tts_voices import check_voice
from .spoken_lines import Line

MANIFEST = "manifest.jsonl"
BATCH_SIZE = 8


@dataclass(frozen=True)
class Task:
    """A line that is ready to be spoken.

    Attributes:
        line: the line.
        words: its text as it is read aloud.
        language: BCP 47 tag, with its region if one is asked for.
        voice: the voice, as keyword arguments of the part.
        key: a hash of all that decides how it sounds.
    """

    line: Line
    words: str
    language: str
    voice: dict[str, Any]
    key: str


def speak_lines(
    tts,
    lines: list[Line],
    out: str | os.PathLike,
    language: str = "es",
    speaker_wav=None,
    speaker: str | None = None,
    *,
    model: str = "",
    batch_size: int = BATCH_SIZE,
    asr: AutomaticSpeechRecognitionPipeline | None = None,
    overwrite: bool = False,
    on_begin: Callable[[int], None] = lambda count: None,
    **options,
) -> Iterator[dict]:
    """Speak lines to a WAV each, and keep `manifest.jsonl` of them, a JSON object per line in their order.

    Lines of like length are spoken together where the part can, such as `XTTS`, and side by side where it can't. What
    the manifest says is done, with the same text, voice, model and options, is kept: a run that was killed, at any
    time, goes on when it is called again. A WAV appears whole or not at all, and its row after it.

    Args:
        tts: the part that speaks.
        lines: what `read_lines` returned.
        out: folder for the sounds; it is made.
        language: BCP 47 tag of the lines that say none. Its region decides how numbers, dates and "$" are read.
        speaker_wav: the voice of the lines that say none: recordings of a speaker who agreed to be cloned.
        speaker: instead, the name of a voice of the part.
        model: what `tts` was loaded from; a row that another model spoke is spoken again.
        batch_size: the most lines at once.
        asr: hear each sound with its Whisper, and add what it `heard` and the `wer`.
        overwrite: speak again what is done.
        on_begin: called with the number of lines that are yet to be spoken or heard.
        options: of the part: `speed`, `temperature` ...

    Yields:
        The rows of the manifest as they are made, those that are kept first: `line`, `text`, `file`, `seconds` of
        sound, the seconds that it `took`, a batch's shared out by the sound's length, and their quotient `rtf`; or,
        with an `error` that says why, nothing was written.

    Raises:
        OSError: `out` can't be written. ValueError: a `speaker_wav` that `load_reference` refuses, no such speaker.
        MemoryError: out of memory; a smaller `batch_size` takes less. ImportError: `asr` without jiwer.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    check_voice(speaker_wav, speaker, tts)
    prepare = _Preparation(tts, language, speaker_wav, speaker, model, options)
    made = {} if overwrite else read_manifest(out)
    tasks, rows = [], {}
    for line in lines:
        task = prepare(line)
        if isinstance(task, str):
            rows[line.number] = _row(line, error=task)
        else:
            tasks.append(task)
            old = made.get(line.file, {})
            if old.get("key") == task.key and (out / line.file).is_file():
                rows[line.number] = {**old, **_row(line)}
    _write_manifest(out, rows, lines)
    begun = [task for task in tasks if task.line.number not in rows]
    unheard = [task for task in tasks if asr and task.line.number in rows and "wer" not in rows[task.line.number]]
    yield from (row for row in rows.values() if asr is None or "wer" in row or "error" in row)
    on_begin(len(begun) + len(unheard))
    with open(out / MANIFEST, "a", encoding="utf-8") as manifest:

        def keep(row: dict) -> dict:
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
            manifest.flush()
            return rows.setdefault(row["line"], row)

        for task in unheard:
            samples, _ = load_audio(out / task.line.file, SAMPLING_RATE)
            yield keep(rows.pop(task.line.number) | _heard(task, samples, asr))
        for batch in _batches(begun, batch_size):
            for task, sound, took, error in _speak(tts, batch, options):
                if error is not None or sound is None:
                    yield keep(_row(task.line, error=str(error)))
                    continue
                (out / task.line.file).parent.mkdir(parents=True, exist_ok=True)
                write_wav(out / task.line.file, sound, tts.sampling_rate)
                seconds = len(sound) / tts.sampling_rate
                times = {"seconds": round(seconds, 3), "took": round(took, 3), "rtf": round(took / seconds, 3)}
                heard = _heard(task, resample(sound, tts.sampling_rate, SAMPLING_RATE), asr) if asr else {}
                yield keep(_row(task.line, **times, key=task.key) | heard)
    _write_manifest(out, rows, lines)


def read_manifest(out: Path) -> dict[str, dict]:
    """Return the rows of a folder's manifest by file, the last of each; a line that a killed run left torn is none."""
    rows = {}
    if (out / MANIFEST).is_file():
        for line in (out / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                rows[row["file"]] = row
            except (ValueError, KeyError, TypeError):
                continue
    return rows


def describe_folder(folder: str | os.PathLike) -> str:
    """Return a hash of a model's folder that changes when it is written anew: its files' names, sizes and times."""
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    found = [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _hash(found)


class _Preparation:
    """Makes a `Task` of a line, or says why none can be made; each voice is computed once."""

    def __init__(self, tts, language: str, speaker_wav, speaker: str | None, model: str, options: dict):
        self.tts, self.language, self.speaker, self.model, self.options = tts, language, speaker, model, options
        self.references = load_reference(speaker_wav) if speaker_wav is not None else None
        self.voices: dict[str, dict[str, Any] | Exception] = {}

    def __call__(self, line: Line) -> Task | str:
        if line.error:
            return line.error
        tag = line.language or self.language
        try:
            code = language_code(tag)
            languages = self.tts.languages if isinstance(self.tts, SpeaksLanguages) else None
            if languages is not None and code not in languages:
                return f"the voice doesn't speak {tag!r}; it speaks {', '.join(languages)}"
            if not (words := speakable(line.text, tag)):
                return "nothing in it can be said"
            name, voice = self._voice(line)
        except (OSError, ValueError, TypeError) as error:
            return str(error)
        return Task(line, words, tag, voice, _hash([self.model, words, tag, name, self.options]))

    def _voice(self, line: Line) -> tuple[str, dict[str, Any]]:
        """Return a name of the line's voice, by its content, and the voice as keyword arguments of the part."""
        asked = f"{line.speaker_wav}|{line.speaker}"
        if asked not in self.voices:
            try:
                self.voices[asked] = self._resolve(line)
            except (OSError, ValueError) as error:
                self.voices[asked] = error
        found = self.voices[asked]
        if isinstance(found, Exception):
            raise found
        return found["name"], found["voice"]

    def _resolve(self, line: Line) -> dict[str, Any]:
        is_own = bool(line.speaker_wav or line.speaker)
        references: list[Reference] | None = None if is_own else self.references
        speaker = (line.speaker or None) if is_own else self.speaker
        if line.speaker_wav:
            references = load_reference(line.speaker_wav)
        check_voice(references, speaker, self.tts)
        name = speaker or " ".join(reference.sha256 for reference in references or ())
        if isinstance(self.tts, ResolvesVoices):
            return {"name": name, "voice": {"voice": self.tts.resolve_voice(references, speaker)}}
        return {"name": name, "voice": {"speaker_wav": references, **({"speaker": speaker} if speaker else {})}}


def _batches(tasks: list[Task], size: int) -> Iterator[list[Task]]:
    """Yield tasks in batches of one language and of like length, the longest first."""
    for language in dict.fromkeys(task.language for task in tasks):
        spoken = sorted((task for task in tasks if task.language == language), key=lambda task: -len(task.words))
        for first in range(0, len(spoken), size):
            yield spoken[first : first + size]


def _speak(tts, batch: list[Task], options: dict) -> Iterator[tuple[Task, np.ndarray | None, float, Exception | None]]:
    """Speak a batch; yield each task with its sound, its share of the seconds, and the error that prevented it.

    If a batch fails, its lines are spoken one by one, so that one bad line costs no other.
    """
    tag = batch[0].language
    language = tag if isinstance(tts, SpeaksRegions) and tts.regions else base_language(tag)
    start = time.perf_counter()
    try:
        with explain_out_of_memory("tts"):
            sounds = _sounds(tts, batch, language, options)
    except MemoryError:
        raise
    except Exception as error:  # a part of the user's own may raise anything
        if len(batch) == 1:
            yield batch[0], None, 0.0, error
            return
        for task in batch:
            yield from _speak(tts, [task], options)
        return
    took = time.perf_counter() - start
    samples = sum(map(len, sounds))
    for task, sound in zip(batch, sounds, strict=True):
        silent = None if len(sound) else ValueError("the voice said nothing")
        yield task, sound, took * len(sound) / max(1, samples), silent


def _sounds(tts, batch: list[Task], language: str, options: dict) -> list[np.ndarray]:
    words = [task.words for task in batch]
    if isinstance(tts, SpeaksBatches):
        return tts.speak_batch(words, language, [task.voice["voice"] for task in batch], **options)
    # Kokoro leaves cores idle between its operators: side by side, its lines took 0.72 of the time on two cores.
    with ThreadPoolExecutor(min(len(batch), os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda task: tts(task.words, language=language, **task.voice, **options), batch))


def _heard(task: Task, samples: np.ndarray, asr) -> dict:
    from .read_back import read_back, word_error_rate  # jiwer belongs to an extra

    heard = read_back(samples, asr, task.language)
    return {"heard": heard, "wer": round(word_error_rate(task.line.text, heard, task.language), 1)}


def _row(line: Line, **values) -> dict:
    times = {} if line.start is None else {"start": line.start, "end": line.end}
    return {"line": line.number, "text": line.text, "file": line.file, **times, **values}


def _write_manifest(out: Path, rows: dict[int, dict], lines: list[Line]) -> None:
    """Write the manifest in the order of the lines."""
    found = [json.dumps(rows[line.number], ensure_ascii=False) + "\n" for line in lines if line.number in rows]
    write_text(out / MANIFEST, "".join(found))


def _hash(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
