"""Prepare a voice's data: read, check and split the rows, and turn them into token ids and audio codes."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState

from hfpipe.pipeline.text_speakable import speakable

from ..data import split
from .batches import Clip
from .check import MAX_SECONDS, VoiceReport, check_voice, load_ears
from .codes import Codec, compute_codes
from .options import VoiceOptions

MAX_TEXT_TOKENS = 200  # coqui-tts, GPTArgs.max_text_length


@dataclasses.dataclass
class VoiceSplits:
    """The clips of a training, the reports of the tables' checks, and what was kept and dropped in all."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]
    reports: dict[str, VoiceReport]
    data: dict[str, dict]


def prepare(options: VoiceOptions, xtts, codec: Codec, say: Callable[[str], None]) -> VoiceSplits:
    """Read and check all the tables that the options name, and split them.

    The validation holds out texts, and not speakers: the speakers are what the training is about.

    Raises:
        OSError: a table can't be read.
        ValueError: a table isn't one, or has no usable row.
    """
    reports: dict[str, VoiceReport] = {}
    data: dict[str, dict] = {}

    def read(name: str, table: str | None) -> list[Clip]:
        if not table:
            return []
        say(f"Checking {name}")
        clips, reports[name], data[name] = _read_clips(options, table, xtts, codec)
        say(f"{name}: {len(clips)} of {data[name]['rows']} rows are usable ({data[name]['hours']:.2f} h)")
        return clips

    train, validation, test = (read(name, getattr(options, name)) for name in ("train", "validation", "test"))
    if not validation and options.has_validation:
        otherwise = "--validation, or --validation-share 0, which keeps the last checkpoint"
        train, validation = split(train, options.validation_share, options.seed, otherwise, by_speaker=False)
    say(f"Training on {len(train)} rows, validating on {len(validation)}, testing on {len(test)}")
    return VoiceSplits(train, validation, test, reports, data)


def encode_text(tokenizer, sentence: str, language: str) -> torch.Tensor:
    """Return the token ids of a text as it is read when it is spoken: numbers in words, lower case."""
    return torch.tensor(tokenizer.encode(speakable(sentence, language).lower(), lang=language.split("-")[0]))


def _read_clips(options: VoiceOptions, table: str, xtts, codec: Codec) -> tuple[list[Clip], VoiceReport, dict]:
    """Return the clips of a table that can be trained on, its report, and what the training's report says of it."""
    with PartialState().main_process_first():  # the others find what it measured
        ears = load_ears(options.asr, options.language) if options.drop_contradicted else None
        limit = min(options.max_seconds, MAX_SECONDS)
        report = check_voice(table, language=options.language, ears=ears, max_seconds=limit)
    unknown = xtts.tokenizer.tokenizer.token_to_id("[UNK]")
    kept, dropped = [], Counter(report.as_dict()["dropped"])
    for row in report.rows_kept:
        tokens = encode_text(xtts.tokenizer, row.text, options.language)
        if options.country and (row.country or "").casefold() != options.country.casefold():
            dropped[f"not of {options.country}"] += 1
        elif len(tokens) > MAX_TEXT_TOKENS:
            dropped[f"text over {MAX_TEXT_TOKENS} tokens"] += 1
        elif (tokens == unknown).any():
            dropped["characters that XTTS has no token for"] += 1
        else:
            kept.append((row, tokens))
    if not kept:
        counts = ", ".join(f"{count} {kind}" for kind, count in dropped.items())
        raise ValueError(f"{table} has no row that XTTS can be trained on, of {report.rows}: {counts}.")
    with PartialState().main_process_first():
        codes = compute_codes([row.audio for row, _ in kept], Path(options.out, "codes"), codec)
    clips = [
        Clip(row.audio, row.text, tokens, each, row.seconds, row.speaker, row.country)
        for (row, tokens), each in zip(kept, codes, strict=True)
    ]
    return clips, report, describe_clips(clips) | {"rows": report.rows, "dropped": dict(dropped)}


def describe_clips(clips: list[Clip]) -> dict:
    """Return the hours of clips, in all, by speaker and by country."""
    by_speaker: dict[str, float] = defaultdict(float)
    by_country: dict[str, float] = defaultdict(float)
    for clip in clips:
        by_speaker[clip.speaker or "unknown"] += clip.seconds / 3600
        by_country[clip.country or "unknown"] += clip.seconds / 3600
    hours = sum(clip.seconds for clip in clips) / 3600
    return {"hours": hours, "speakers": dict(by_speaker), "countries": dict(by_country)}
