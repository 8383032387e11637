"""Speak the texts of a table in the voices of its speakers, and time it."""

import dataclasses
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hfpipe
from hfpipe.pipeline.audio import load_audio, load_reference
from hfpipe.pipeline.text_speakable import speakable

from .table import VoiceRow

COLUMN = "column:"  # before the name of a column that holds recordings instead of a model
REFERENCE_SECONDS = 10.0  # of a speaker's longest recordings are the reference


@dataclasses.dataclass(frozen=True, eq=False)
class Spoken:
    """A spoken text: float32 (samples,) at `rate` Hz, and the seconds until its first and its last sample, or None."""

    samples: np.ndarray
    rate: int
    first_audio: float | None = None
    computing: float | None = None


def load_voice(model):
    """Load a model that speaks: a part, a folder, a Hub id, a voice-qa repo of which `tts/` is taken, or "offline".

    Raises:
        OSError, ValueError, ImportError: see `hfpipe.load_tts`.
    """
    if callable(model):
        return model
    folder = Path(hfpipe.offline_repo()) if str(model) == "offline" else Path(model)
    inner = folder / "tts"
    return hfpipe.load_tts(str(inner if (inner / "config.json").is_file() else folder if folder.is_dir() else model))


def choose_references(rows: Sequence[VoiceRow], seconds: Sequence[float]) -> dict[str | None, list[int]]:
    """Choose the reference of each speaker: their longest recordings, of 10 s together if there are as many.

    Returns:
        The indices of the rows by speaker; None is the speaker of a table that names none.
    """
    chosen: dict[str | None, list[int]] = {}
    for speaker in dict.fromkeys(row.speaker for row in rows):
        theirs = sorted((i for i, row in enumerate(rows) if row.speaker == speaker), key=lambda i: -seconds[i])
        total, chosen[speaker] = 0.0, []
        for i in theirs:
            if total < REFERENCE_SECONDS:
                chosen[speaker].append(i)
                total += seconds[i]
    return chosen


def speak_rows(voice, rows: Sequence[VoiceRow], references: dict, language: str, speaker: str | None, on_done):
    """Yield the spoken text of each row.

    Each voice says a text once before anything is timed, so that what it computes of a recording, or compiles, isn't
    counted.

    Args:
        voice: a part that speaks.
        references: paths of the recordings of each speaker, by speaker.
        speaker: a voice of the model's own to speak everything with; None imitates each row's speaker.
        on_done: called after each row.
    """
    voices = {}
    for row in rows:
        words = speakable(row.text, language)
        if row.speaker not in voices:
            voices[row.speaker] = _resolve(voice, references[row.speaker], speaker)
            _speak(voice, words, language, voices[row.speaker])
        yield _speak(voice, words, language, voices[row.speaker])
        on_done()


def read_column(table, rows: Sequence[VoiceRow], column: str) -> list[Spoken]:
    """Read the recordings that a column of the table names, relative to the table's folder.

    Raises:
        ValueError: there is no such column, or it is empty in a row.
        OSError: a recording can't be read.
    """
    from ..data import read_rows

    folder, cells = Path(table), read_rows(table)
    folder = folder if folder.is_dir() else folder.parent
    missing = next((row.line for row in cells if not row.extra.get(column)), None)
    if missing is not None:
        known = ", ".join(dict.fromkeys(name for row in cells for name in row.extra)) or "none besides audio and text"
        raise ValueError(f"line {missing} of {table} has no recording in a column {column!r}; its columns: {known}.")
    return [Spoken(*load_audio(str(folder / row.extra[column]))) for row in cells[: len(rows)]]


def _resolve(voice, recordings: list[Path], speaker: str | None) -> dict:
    """Return the arguments of a call that choose the voice; what is computed of a recording is computed here."""
    if speaker is not None:
        return {"speaker": speaker}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="speaker_wav lasts")  # short test sets; the report says how long
        references = load_reference([str(recording) for recording in recordings])
        if not hasattr(voice, "resolve_voice"):
            return {"speaker_wav": references}
        resolved = voice.resolve_voice(references)
    return {} if resolved is None else {"voice": resolved}


def _speak(voice, words: str, language: str, how: dict) -> Spoken:
    start = time.perf_counter()
    if hasattr(voice, "stream"):
        chunks, first = [], None
        for chunk in voice.stream(words, language=language, **how):
            first = first or time.perf_counter() - start
            chunks.append(chunk)
        samples = np.concatenate(chunks)
    else:
        samples, first = voice(words, language=language, **how), None
    seconds = time.perf_counter() - start
    return Spoken(samples, voice.sampling_rate, seconds if first is None else first, seconds)
