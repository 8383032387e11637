"""Transcribe a recording of any length as OpenAI's API gives it: segments, words, subtitles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from openai.types.audio import TranscriptionSegment, TranscriptionWord
from transformers import AutomaticSpeechRecognitionPipeline
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from ..pipeline.asr_whisper import FULL_WINDOW, compression_ratio, detect_languages, encode, prompt_tokens
from ..pipeline.audio import SAMPLING_RATE
from ..transcription import (
    MAX_CHUNK_SECONDS,
    find_chunks_by_language,
    find_utterances,
    format_transcript,
    join_utterances,
    transcribe_chunks,
)
from .errors import ApiError

FRAMES_PER_SECOND = 100  # of Whisper's features, in which `seek` counts
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")


@dataclass(frozen=True)
class Chunk:
    """What was understood in one stretch of speech.

    Attributes:
        language: ISO 639-1 code.
        segments, words: dicts of "start", "end" (seconds) and "text"; no words unless they were asked for.
        details: of each segment, what `verbose_json` adds; none unless asked for.
    """

    language: str
    segments: list[dict]
    words: list[dict]
    details: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """The text of all segments."""
        return " ".join(segment["text"] for segment in self.segments)


def check_task(asr: AutomaticSpeechRecognitionPipeline, task: str, by_word: bool) -> None:
    """Raise an `ApiError` if a Whisper can't translate, or can't time words, where that is asked for."""
    config = asr.model.generation_config
    if task == "translate" and not (config.is_multilingual and "<|translate|>" in asr.tokenizer.get_vocab()):
        message = "this Whisper hears English alone and can't translate; serve a multilingual one as --model."
        raise ApiError(400, message, "translation_not_supported")
    if by_word and not getattr(config, "alignment_heads", None):
        message = (
            "this Whisper has no alignment_heads in its generation_config.json, so it can't time words; ask for "
            "timestamp_granularities ['segment'], or serve a Whisper that has them."
        )
        raise ApiError(400, message, "word_timestamps_not_supported", "timestamp_granularities")


def transcribe(
    asr: AutomaticSpeechRecognitionPipeline,
    samples: np.ndarray,
    language: str | None,
    *,
    task: str = "transcribe",
    by_word: bool = False,
    with_details: bool = False,
    **options: Any,
) -> Iterator[Chunk]:
    """Yield what is understood in each stretch of speech; nothing where nobody speaks.

    Args:
        asr: transformers' speech recognition pipeline with a Whisper.
        samples: float32 (samples,) at 16 kHz.
        language: ISO 639-1 code; None detects it along the recording.
        task: "transcribe", or "translate" to English.
        by_word: time the words as well.
        with_details: compute what `verbose_json` adds to a segment.
        options: `prompt` and `temperature`, as `transcribe_chunks` takes them.
    """
    options |= {"task": task}
    for start, end, spoken in _find_stretches(asr, samples, language):
        chunk = [(start, end)]
        [segments] = transcribe_chunks(asr, samples, chunk, spoken, **options)
        words = transcribe_chunks(asr, samples, chunk, spoken, by_word=True, **options)[0] if by_word else []
        temperature = options.get("temperature", 0.0)  # where Whisper begins; where it ended isn't known
        read = _details(asr, samples, start, end, spoken, task, segments) if with_details else []
        details = [each | {"temperature": temperature} for each in read]
        yield Chunk(spoken, segments, words, details)


def _find_stretches(asr, samples: np.ndarray, language: str | None) -> list[tuple[int, int, str]]:
    """Return (start, end, language) of each stretch of speech, in samples; a short recording is in one language."""
    utterances = find_utterances(samples)
    if language is None and not asr.model.generation_config.is_multilingual:
        language = "en"
    if language is None and len(samples) > FULL_WINDOW * SAMPLING_RATE:
        return find_chunks_by_language(asr, samples, utterances)
    if language is None and utterances:
        language = detect_languages(asr, encode(asr, [samples], FULL_WINDOW))[0]
    joined = join_utterances(utterances, MAX_CHUNK_SECONDS)
    return [(start, end, language or "en") for start, end in joined]


def _details(asr, samples, start: int, end: int, language: str, task: str, segments: list[dict]) -> list[dict]:
    """Return how sure Whisper is of each segment, by reading their text once more."""
    tokenizer, model = asr.tokenizer, asr.model
    ids, prompt = tokenizer.get_vocab(), prompt_tokens(asr, language, task)
    tokens = [tokenizer(f" {each['text']}", add_special_tokens=False)["input_ids"] for each in segments]
    room = model.config.max_target_positions - len(prompt)
    read = [token for each in tokens for token in each][:room]
    encoded = encode(asr, [samples[start:end].copy()], FULL_WINDOW)
    with torch.inference_mode():
        given = torch.tensor([prompt + read], device=model.device)
        logits = model(encoder_outputs=encoded, decoder_input_ids=given).logits[0].float()
    first = logits[0].softmax(dim=-1)
    no_speech = next((float(first[ids[name]]) for name in NO_SPEECH if name in ids), 0.0)
    steps = logits[len(prompt) - 1 : len(prompt) - 1 + len(read)].log_softmax(dim=-1)
    sure = steps.gather(1, torch.tensor(read, device=model.device)[:, None])[:, 0].tolist() if read else []
    details, position = [], 0
    for segment, spelled in zip(segments, tokens, strict=True):
        own = sure[position : position + len(spelled)]
        position += len(spelled)
        details.append(
            {
                "tokens": spelled,
                "avg_logprob": sum(own) / len(own) if own else 0.0,
                "compression_ratio": compression_ratio(segment["text"]),
                "no_speech_prob": no_speech,
                "seek": start * FRAMES_PER_SECOND // SAMPLING_RATE,
            }
        )
    return details


def language_name(chunks: list[Chunk], asked: str | None) -> str:
    """Return the English name, in lower case as OpenAI's API has it, of the language that was asked for or heard."""
    code = asked or next((chunk.language for chunk in chunks), "en")
    return LANGUAGES.get(code, code)


def segments_of(chunks: list[Chunk]) -> list[TranscriptionSegment]:
    """Return all segments, with all that OpenAI's type holds."""
    pairs = [pair for chunk in chunks for pair in zip(chunk.segments, chunk.details, strict=True)]
    timed = ("start", "end", "text")
    return [
        TranscriptionSegment(id=number, **{name: segment[name] for name in timed}, **details)
        for number, (segment, details) in enumerate(pairs)
    ]


def words_of(chunks: list[Chunk]) -> list[TranscriptionWord]:
    """Return all words with their times."""
    words = [word for chunk in chunks for word in chunk.words]
    return [TranscriptionWord(word=word["text"], start=word["start"], end=word["end"]) for word in words]


def subtitles(chunks: list[Chunk], subtitle_format: str) -> str:
    """Return SubRip ("srt") or WebVTT ("vtt")."""
    return format_transcript({"segments": [each for chunk in chunks for each in chunk.segments]}, subtitle_format)
