"""Prepare a voice's data: read, check and split the rows, and turn them into token ids and audio codes."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState

from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.text_speakable import speakable

from ..data import split
from .batches import Clip
from .codes import Codec, compute_codes
from .options import MAX_SECONDS, VoiceOptions
from .table import read_table

MAX_TEXT_TOKENS = 200  # coqui-tts, GPTArgs.max_text_length
MIN_SECONDS = 0.5  # coqui-tts, XTTSDataset.load_item


@dataclasses.dataclass
class VoiceSplits:
    """The clips of a training; `data` says of each table what was kept, dropped and why."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]
    data: dict[str, dict]


def prepare(options: VoiceOptions, xtts, codec: Codec, say: Callable[[str], None]) -> VoiceSplits:
    """Read and check all the tables that the options name, and split them.

    The validation holds out texts, and not speakers: the speakers are what the training is about.

    Raises:
        OSError: a table can't be read.
        ValueError: a table isn't one, or has no usable row.
    """
    data: dict[str, dict] = {}

    def read(name: str, table: str | None) -> list[Clip]:
        if not table:
            return []
        say(f"Checking {name}")
        clips, data[name] = _read_clips(options, table, xtts, codec)
        say(f"{name}: {len(clips)} of {data[name]['rows']} rows are usable ({data[name]['hours']:.2f} h)")
        return clips

    train, validation, test = (read(name, getattr(options, name)) for name in ("train", "validation", "test"))
    if not validation and options.has_validation:
        otherwise = "--validation, or --validation-share 0, which keeps the last checkpoint"
        train, validation = split(train, options.validation_share, options.seed, otherwise, by_speaker=False)
    say(f"Training on {len(train)} rows, validating on {len(validation)}, testing on {len(test)}")
    return VoiceSplits(train, validation, test, data)


def encode_text(tokenizer, sentence: str, language: str) -> torch.Tensor:
    """Return the token ids of a text as it is read when it is spoken: numbers in words, lower case."""
    return torch.tensor(tokenizer.encode(speakable(sentence, language).lower(), lang=language.split("-")[0]))


def _read_clips(options: VoiceOptions, table: str, xtts, codec: Codec) -> tuple[list[Clip], dict]:
    """Return the clips of a table that can be trained on, and what the report says of the table."""
    rows = read_table(table)
    unknown = xtts.tokenizer.tokenizer.token_to_id("[UNK]")
    kept, dropped = [], Counter()
    for row in rows:
        if options.country and (row.country or "").casefold() != options.country.casefold():
            dropped[f"not of {options.country}"] += 1
            continue
        tokens = encode_text(xtts.tokenizer, row.text, options.language)
        samples, rate = load_audio(row.audio)
        seconds = len(samples) / rate
        if problem := _problem(tokens, seconds, min(options.max_seconds, MAX_SECONDS), unknown):
            dropped[problem] += 1
        else:
            kept.append((row, tokens, seconds))
    if not kept:
        raise ValueError(f"{table} has no row that XTTS can be trained on: {_listed(dropped) or 'it is empty'}.")
    with PartialState().main_process_first():
        codes = compute_codes([row.audio for row, _, _ in kept], Path(options.out, "codes"), codec)
    clips = [
        Clip(row.audio, row.text, tokens, each, seconds, row.speaker, row.country)
        for (row, tokens, seconds), each in zip(kept, codes, strict=True)
    ]
    return clips, describe_clips(clips) | {"rows": len(rows), "dropped": dict(dropped)}


def describe_clips(clips: list[Clip]) -> dict:
    """Return the hours of clips, in all, by speaker and by country."""
    by_speaker, by_country = Counter(), Counter()
    for clip in clips:
        by_speaker[clip.speaker or "unknown"] += clip.seconds / 3600
        by_country[clip.country or "unknown"] += clip.seconds / 3600
    hours = sum(clip.seconds for clip in clips) / 3600
    return {"hours": hours, "speakers": dict(by_speaker), "countries": dict(by_country)}


def _problem(tokens: torch.Tensor, seconds: float, limit: float, unknown: int) -> str | None:
    """Return why XTTS can't be trained on a row, as coqui's own dataset has it, or None."""
    if not len(tokens):
        return "nothing to say"
    if len(tokens) > MAX_TEXT_TOKENS:
        return f"text over {MAX_TEXT_TOKENS} tokens"
    if (tokens == unknown).any():
        return "characters that XTTS has no token for"
    if not MIN_SECONDS <= seconds <= limit:
        return f"not between {MIN_SECONDS} and {limit} s"
    return None


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
