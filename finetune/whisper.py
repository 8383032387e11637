"""Load a Whisper that hears windows of any length, and have it write down many recordings."""

import copy
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    AutoConfig,
    PreTrainedTokenizerBase,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

import hfpipe
from hfpipe.pipeline.asr_whisper import (
    FULL_WINDOW,
    MAX_TOKENS_PER_SECOND,
    POSITIONS_PER_SECOND,
    SPARE_TOKENS,
    decode,
    detect_languages,
    hear_long,
    repeats_itself,
)
from hfpipe.pipeline.asr_whisper import MARGIN as HEARING_MARGIN
from hfpipe.pipeline.audio import SAMPLING_RATE
from hfpipe.pipeline.hub_access import check_reachable, split_revision

FRAMES_PER_SECOND = 2 * POSITIONS_PER_SECOND  # of the log-mel features; the encoder halves them
MARGIN = 1.0  # seconds of silence, at least, that a short window leaves after the speech while a model learns
PREFIX = 4  # tokens before the text: start, language, task, no timestamps
WINDOW_STEP = 0.5  # seconds between the lengths of windows
SIZES = ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3")
NAMES = {"turbo": "openai/whisper-large-v3-turbo"} | {size: f"openai/whisper-{size}" for size in SIZES}


def locate(model: str | os.PathLike) -> str:
    """Gives the folder or Hub id of a Whisper: "base" is OpenAI's, and "offline" the base in hfpipe's offline repo."""
    name = os.fspath(model)
    if os.path.isdir(name):
        return name
    return hfpipe.offline_repo() if name == "offline" else NAMES.get(name, name)


def load_whisper(model: str | os.PathLike) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Loads a Whisper in float32, on the GPU where there is one, with an encoder that hears windows of any length.

    Args:
        model: what `locate` takes, a Hub id with "@revision" if wanted.

    Raises:
        OSError: it can't be reached. ValueError: it is no Whisper.
    """
    processor = load_processor(model)
    name, revision = split_revision(locate(model))
    # A checkpoint saved in 16 bits would load in 16 bits, and train badly.
    whisper = WhisperForConditionalGeneration.from_pretrained(name, revision=revision, dtype=torch.float32)
    hear_any_window(whisper)
    return whisper.to("cuda" if torch.cuda.is_available() else "cpu").eval(), processor


def load_processor(model: str | os.PathLike) -> WhisperProcessor:
    """Loads the tokenizer and the feature extractor of a Whisper; raises what `load_whisper` raises."""
    name, revision = split_revision(locate(model))
    check_reachable(name, revision, "model")
    kind = AutoConfig.from_pretrained(name, revision=revision).model_type
    if kind != "whisper":
        raise ValueError(f"model={name!r} is a {kind!r}; valid is a Whisper, such as openai/whisper-base.")
    return WhisperProcessor.from_pretrained(name, revision=revision)


def hear_any_window(whisper: WhisperForConditionalGeneration) -> None:
    """Lets the encoder take features shorter than 30 s: it then uses the first of its positions alone.

    transformers refuses other lengths than the configuration's, although Whisper's layers have none of their own. No
    weight changes, and what is saved is an ordinary Whisper.
    """
    encoder = whisper.get_encoder()
    encoder.config = copy.copy(encoder.config)  # the model's own still says 1500 positions

    def fit(encoder, arguments, options):
        features = options["input_features"] if "input_features" in options else arguments[0]
        positions = features.shape[-1] // 2
        encoder.config.max_source_positions = positions
        encoder.embed_positions.num_embeddings = positions

    encoder.register_forward_pre_hook(fit, with_kwargs=True)


def window_for(seconds: float, margin: float = MARGIN) -> float:
    """Gives the seconds of the shortest window that leaves a margin after so many seconds of speech."""
    return min(math.ceil((seconds + margin) / WINDOW_STEP) * WINDOW_STEP, FULL_WINDOW)


def features_of(processor: WhisperProcessor, waveforms: list[np.ndarray], window: float) -> torch.Tensor:
    """Turns float32 waveforms at 16 kHz into log-mel features (waveforms, mels, 100 * window), cut or padded."""
    return processor.feature_extractor(
        waveforms,
        sampling_rate=SAMPLING_RATE,
        max_length=round(window * SAMPLING_RATE),
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    ).input_features


@torch.inference_mode()
def transcribe(
    whisper: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    waveforms: list[np.ndarray],
    language: str | None,
    *,
    full_window: bool = False,
    batch_size: int = 8,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Writes down what is said in each waveform, greedily, many at once.

    They are heard by length in windows that just hold them, and again in the full one where the text runs on or
    repeats itself, as the voice-qa pipeline hears questions. Over 30 s, Whisper goes from timestamp to timestamp.

    Args:
        waveforms: float32 (samples,) at 16 kHz.
        language: ISO 639-1 code; None lets Whisper detect it.
        full_window: hear everything in windows of 30 s, as the stock pipeline does.
        on_done: is called with the number of waveforms of each batch, for a progress bar.
    """
    training = whisper.training
    whisper.eval()
    ears = Ears(whisper, processor.tokenizer, processor.feature_extractor)
    texts = {}
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
    short = [i for i in order if len(waveforms[i]) <= FULL_WINDOW * SAMPLING_RATE]
    for start in range(0, len(short), batch_size):
        batch = short[start : start + batch_size]
        seconds = len(waveforms[batch[-1]]) / SAMPLING_RATE
        window = FULL_WINDOW if full_window else window_for(seconds, HEARING_MARGIN)
        limit = None if window == FULL_WINDOW else SPARE_TOKENS + round(MAX_TOKENS_PER_SECOND * seconds)
        found, ran_on = _hear(ears, processor, [waveforms[i] for i in batch], window, language, limit)
        texts |= zip(batch, found, strict=True)
        wrong = [i for i, ran in zip(batch, ran_on, strict=True) if ran or repeats_itself(texts[i])]
        if wrong and window < FULL_WINDOW:
            again, _ = _hear(ears, processor, [waveforms[i] for i in wrong], FULL_WINDOW, language, None)
            texts |= zip(wrong, again, strict=True)
        on_done(len(batch))
    for i in order[len(short) :]:
        texts[i] = hear_long(ears, waveforms[i], language)
        on_done(1)
    whisper.train(training)
    return [texts[i] for i in range(len(waveforms))]


class Ears(NamedTuple):
    """What `asr_whisper` asks of a speech recognition pipeline."""

    model: WhisperForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    feature_extractor: WhisperFeatureExtractor


def _hear(ears, processor, waveforms, window, language, limit) -> tuple[list[str], list[bool]]:
    features = features_of(processor, waveforms, window).to(ears.model.device, ears.model.dtype)
    encoded = BaseModelOutput(last_hidden_state=ears.model.get_encoder()(features)[0])
    languages = [language] * len(waveforms) if language else detect_languages(ears, encoded)
    return decode(ears, encoded, languages, limit)
