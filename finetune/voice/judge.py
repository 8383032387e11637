"""Judge a voice: speak the texts of a test set in its speakers' voices, and measure what comes out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from hfpipe.pipeline.asr_checkpoint import check_language
from hfpipe.pipeline.audio import load_audio, resample
from hfpipe.pipeline.audio_speaker import embed_speaker

from ..normalize import normalizer
from ..report import machine
from ..whisper import load_whisper, transcribe
from .judgement import Utterance, compare, judge_goals, summarize, usual_rates
from .judgement_report import write_judgement
from .measures import measure
from .mos import RATE
from .synthesize import COLUMN, Spoken, choose_references, load_voice, read_column, speak_rows
from .table import read_table


def judge_voice(
    model,
    test: str | os.PathLike,
    out: str | os.PathLike,
    *,
    base=None,
    language: str = "es",
    whisper: str = "openai/whisper-base",
    speaker: str | None = None,
    max_rows: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict:
    """Judge a voice on a test set, and write a report with all that it said.

    The texts are spoken in the voice of each row's speaker, of whom the longest recordings are the reference. What is
    said is read back by Whisper, compared with the reference by resemblyzer, and rated by DNSMOS; the speakers' own
    recordings are judged beside it, as the best that these judges can give. Clone only voices of speakers who agreed.

    Args:
        model: a part that speaks, a folder or a Hub id, a voice-qa repo, "offline", or "column:NAME" for recordings
            of the texts that another program made, named in a column of the table.
        test: a table of recordings, see `read_table`, which the voice hasn't been trained on.
        out: a new or empty folder for `judgement.md`, `.json`, `.html` and `.png`, and the recordings.
        base: another model to compare with, such as the one that `model` was trained from.
        language: ISO 639-1 code of the texts.
        whisper: the Whisper that reads back: a folder, a Hub id, a size or "offline".
        speaker: one of the model's own voices to speak everything with, instead of imitating the speakers.
        max_rows: maximum number of rows, from the first.
        say: called with a line about each step.

    Returns:
        The content of `judgement.json`: for the keys of "voices" see `summarize`.

    Raises:
        OSError: the table, a recording or a model can't be read.
        ValueError: `out` has files in it, Whisper doesn't know the language, a row has no text, or a reference is
            unfit, see `load_reference`.
        ImportError: the extra finetune isn't installed.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} has files in it; give a new folder, or delete it first.")
    rows = read_table(test)[:max_rows]
    for row in rows:
        if not normalizer(language)(row.text):
            raise ValueError(f"line {row.line} of {test} has no words in its text; correct it or leave it out.")
    ears = load_whisper(whisper)
    check_language(ears[0], language)
    recordings = [Spoken(*load_audio(str(row.audio))) for row in rows]
    references = choose_references(rows, [len(each.samples) / each.rate for each in recordings])
    sides: dict[str, list[Spoken]] = {"recordings": recordings}
    for name, side in [("base", base), ("model", model)]:
        if side is not None:
            say(f"Speak {len(rows)} texts with the {name}: {describe(side)}.")
            sides[name] = _speak(side, test, rows, references, language, speaker)
    voices = Voices([_embed(each) for each in recordings], references)
    judged: dict[str, list[Utterance]] = {}
    for name, spoken in sides.items():
        say("Judge the speakers' own recordings." if name == "recordings" else f"Judge the {name}.")
        judged[name] = _judge(rows, spoken, ears, language, voices, judged.get("recordings"))
    result = {
        "model": describe(model),
        "base": None if base is None else describe(base),
        "test": Path(test).name,
        "language": language,
        "whisper": Path(whisper).name if os.path.isabs(whisper) else str(whisper),
        "speaker": speaker,
        "references": {name or "": [rows[i].audio.name for i in chosen] for name, chosen in references.items()},
        "voices": {name: summarize(side) for name, side in judged.items()},
        "goals": judge_goals(judged["model"]),
        "gain": compare(judged["base"], judged["model"]) if base is not None else None,
        "machine": machine(),
        "utterances": {name: [each.as_dict() for each in side] for name, side in judged.items()},
    }
    write_judgement(result, sides, out)
    return result


def describe(model) -> str:
    """Return a model's name for a report, which may be published: of a path the last part."""
    if callable(model):
        return type(model).__name__
    name = os.fspath(model)
    return os.path.basename(os.path.normpath(name)) if os.path.exists(name) else name


def _speak(model, test, rows, references, language, speaker) -> list[Spoken]:
    if isinstance(model, str) and model.startswith(COLUMN):
        return read_column(test, rows, model.removeprefix(COLUMN))
    voice = load_voice(model)
    paths = {name: [rows[i].audio for i in chosen] for name, chosen in references.items()}
    with tqdm(total=len(rows), unit="text", disable=None) as bar:
        return list(speak_rows(voice, rows, paths, language, speaker, bar.update))


class Voices(NamedTuple):
    """The speakers' voices: the embedding of each recording, and the indices of the reference by speaker."""

    embeddings: list[np.ndarray]
    references: dict[str | None, list[int]]

    def compare(self, embedding: np.ndarray, speaker: str | None, without: int | None) -> tuple:
        """Return the cosines with a speaker's reference, and the mean of those with the others', or None.

        Args:
            without: a recording that isn't to be compared with itself.
        """
        cosines = {}
        for name, chosen in self.references.items():
            mean = np.sum([self.embeddings[i] for i in chosen if i != without] or [np.zeros(256)], axis=0)
            cosines[name] = float(embedding @ mean / np.linalg.norm(mean)) if mean.any() else None
        own = cosines.pop(speaker)
        return own, float(np.mean([*cosines.values()])) if cosines else None


def _judge(rows, spoken, ears, language: str, voices: Voices, recordings: list[Utterance] | None) -> list[Utterance]:
    """Measure what was spoken of each row.

    Args:
        ears: a Whisper and its processor.
        recordings: what was measured of the speakers' own; None while they are judged themselves.
    """
    waves = [resample(each.samples, each.rate, RATE) for each in spoken]
    texts = transcribe(*ears, waves, language)
    rates, judged = usual_rates(recordings or []), []
    for i, row in enumerate(tqdm(rows, unit="text", disable=None)):
        alike, others = voices.compare(_embed(spoken[i]), row.speaker, without=i if recordings is None else None)
        computing = spoken[i].computing
        judged.append(
            Utterance(
                text=row.text,
                speaker=row.speaker,
                country=row.country,
                measures=measure(waves[i], row.text, texts[i], language, rates.get(row.speaker)),
                similarity=alike,
                similarity_to_others=others,
                rtf=None if computing is None else computing * spoken[i].rate / len(spoken[i].samples),
                first_audio=spoken[i].first_audio,
            )
        )
    return judged


def _embed(spoken: Spoken) -> np.ndarray:
    return embed_speaker([(spoken.samples, spoken.rate)])
