"""Hear what is said, with a Whisper in transformers' stock speech recognition pipeline."""

import copy
import zlib

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline
from transformers.modeling_outputs import BaseModelOutput

from .audio import SAMPLING_RATE

FULL_WINDOW = 30  # seconds that Whisper was trained to hear at once
SHORT_WINDOWS = (5, 8, 10, 15, 20)  # seconds
POSITIONS_PER_SECOND = 50  # of Whisper's encoder; its features have twice as many frames
MARGIN = 128 / POSITIONS_PER_SECOND  # seconds of silence to leave after the speech (ggml-org/whisper.cpp#1855)

# What a short window that went wrong looks like: it never stops, or says one thing over and over.
MAX_TOKENS_PER_SECOND, SPARE_TOKENS = 10, 20  # speech has about 4
MAX_COMPRESSION = 2.4  # compression_ratio_threshold of openai/whisper, transcribe.py


def transcribe(
    asr: AutomaticSpeechRecognitionPipeline, questions: list[np.ndarray], language: str | None
) -> list[tuple[str, str]]:
    """Turns spoken questions into text, and tells the language of each.

    Most questions last a few seconds, and Whisper pads them to 30: here its encoder hears a shorter window where one
    leaves a margin, and hears all 30 s only if the text then runs on or repeats itself. Longer questions are heard
    30 s after 30 s, each from where the last sentence ended (Radford et al. 2022, §3.8).

    Args:
        asr: the stock pipeline around a Whisper.
        questions: float32 waveforms of shape (samples,) at 16 kHz.
        language: ISO 639-1 code, or None to detect it.

    Returns:
        For each question its text, and the code of its language.

    Raises:
        ValueError: no word was understood.
    """
    if len(questions) > 1 and max(map(len, questions)) > FULL_WINDOW * SAMPLING_RATE:
        return [transcribe(asr, [question], language)[0] for question in questions]
    seconds = max(map(len, questions)) / SAMPLING_RATE
    window = next((window for window in SHORT_WINDOWS if seconds + MARGIN <= window), FULL_WINDOW)
    encoded = encode(asr, questions, window)
    languages = [language] * len(questions) if language else detect_languages(asr, encoded)
    if window == FULL_WINDOW:
        texts = _listen(asr, questions, languages, encoded if seconds <= FULL_WINDOW else None)
    else:
        limit = SPARE_TOKENS + round(MAX_TOKENS_PER_SECOND * seconds)
        texts = _listen(asr, questions, languages, encoded, max_new_tokens=limit)
        for i, text in enumerate(texts):
            if went_wrong(text, asr.tokenizer, limit):
                texts[i] = _listen(asr, [questions[i]], [languages[i]])[0]
    if not all(texts):
        raise ValueError("Whisper understood no word of the question. Record it again, nearer to the microphone.")
    return list(zip(texts, languages, strict=True))


def encode(asr: AutomaticSpeechRecognitionPipeline, questions: list[np.ndarray], window: int) -> BaseModelOutput:
    """Encodes the first `window` seconds of each question; the states are (questions, 50 * window, d_model)."""
    model = asr.model
    features = asr.feature_extractor(questions, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
    positions = window * POSITIONS_PER_SECOND
    encoder = model.get_encoder()
    if window != FULL_WINDOW:  # the same layers, with the first positions alone: transformers refuses other lengths
        encoder = copy.copy(encoder)
        encoder._modules = dict(encoder._modules)
        encoder.config = copy.copy(encoder.config)
        encoder.config.max_source_positions = positions
        encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:positions])
    with torch.inference_mode():
        return encoder(features[:, :, : 2 * positions].to(model.device, model.dtype))


def detect_languages(asr: AutomaticSpeechRecognitionPipeline, encoded: BaseModelOutput) -> list[str]:
    """Gives the ISO 639-1 code of the language that Whisper hears in each encoded question."""
    if not asr.model.generation_config.is_multilingual:
        return ["en"] * len(encoded.last_hidden_state)
    tokens = asr.model.detect_language(encoder_outputs=encoded)
    return [token.strip("<|>") for token in asr.tokenizer.convert_ids_to_tokens(tokens.tolist())]


def went_wrong(text: str, tokenizer, limit: int) -> bool:
    """Tells whether a text ran into its limit of tokens, or repeats itself so that it compresses too well."""
    data = text.encode()
    runs_on = len(tokenizer(text, add_special_tokens=False)["input_ids"]) >= limit - 1
    return runs_on or len(data) / len(zlib.compress(data)) > MAX_COMPRESSION


def _listen(asr, questions, languages, encoded=None, **limits) -> list[str]:
    """Has the stock pipeline write down each question, from what the encoder heard where that is given."""
    generate_kwargs = {"num_beams": 1, **limits}  # the stock pipeline's 5 beams take three times as long
    if encoded is not None:
        generate_kwargs["encoder_outputs"] = encoded
    if asr.model.generation_config.is_multilingual:
        # Whisper with neither degenerates into one repeated word, so the task is always given.
        generate_kwargs |= {"task": "transcribe", "language": languages if len(languages) > 1 else languages[0]}
    options = {"batch_size": len(questions), "generate_kwargs": generate_kwargs}
    if max(map(len, questions)) > FULL_WINDOW * SAMPLING_RATE:
        options["return_timestamps"] = True  # or the stock pipeline can't tell where to go on
    return [output["text"].strip() for output in asr(questions, **options)]
