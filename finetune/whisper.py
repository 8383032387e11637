"""Load a Whisper whose encoder accepts windows of any length, and transcribe recordings in batches."""

import copy
import math
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from transformers import (
    PreTrainedTokenizerBase,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.modeling_outputs import BaseModelOutput

import hfpipe
from hfpipe.pipeline.asr_checkpoint import complete_whisper, refuse_other_models
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
from hfpipe.pipeline.asr_whisper import MARGIN as INFERENCE_MARGIN
from hfpipe.pipeline.audio import SAMPLING_RATE
from hfpipe.pipeline.hub_access import split_revision

FRAMES_PER_SECOND = 2 * POSITIONS_PER_SECOND  # log-mel frames; the encoder halves their number
MARGIN = 1.0  # seconds of silence, at least, after the speech in a short window during training
PREFIX = 4  # tokens before the text: start, language, task, no timestamps
WINDOW_STEP = 0.5  # seconds; window lengths are multiples of it
SIZES = ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3")
NAMES = {"turbo": "openai/whisper-large-v3-turbo"} | {size: f"openai/whisper-{size}" for size in SIZES}


def locate(model: str | os.PathLike) -> str:
    """Return the folder or Hub id of a Whisper: "base" is OpenAI's, "offline" the base in hfpipe's offline repo."""
    name = os.fspath(model)
    if os.path.exists(name):
        return name
    return hfpipe.offline_repo() if name == "offline" else NAMES.get(name, name)


def load_whisper(model: str | os.PathLike) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Load a Whisper in float32, on the GPU if there is one, with an encoder that accepts windows of any length.

    Args:
        model: a folder, a size, "offline", or a Hub id with an optional "@revision".

    Raises:
        OSError: the model can't be reached, or lacks files.
        ValueError: it isn't a Whisper in transformers' format.
    """
    processor = load_processor(model)
    name, revision = split_revision(locate(model))
    # Without a dtype, a checkpoint saved in 16 bits loads in 16 bits, and trains badly.
    whisper = WhisperForConditionalGeneration.from_pretrained(name, revision=revision, dtype=torch.float32)
    complete_whisper(whisper, processor.tokenizer)
    accept_short_windows(whisper)
    return whisper.to("cuda" if torch.cuda.is_available() else "cpu").eval(), processor


def load_processor(model: str | os.PathLike) -> WhisperProcessor:
    """Load the tokenizer and feature extractor of a Whisper; raises the same errors as `load_whisper`."""
    name, revision = split_revision(locate(model))
    refuse_other_models(name, revision)
    return WhisperProcessor.from_pretrained(name, revision=revision)


def accept_short_windows(whisper: WhisperForConditionalGeneration) -> None:
    """Let the encoder accept features of less than 30 s, for which it uses its first positions only.

    transformers refuses any length but that of the configuration, although no layer of Whisper depends on it. No
    weight is changed, and `save_pretrained` writes an ordinary Whisper.
    """
    encoder = whisper.get_encoder()
    encoder.config = copy.copy(encoder.config)  # the model's own config keeps its 1500 positions

    def set_positions(encoder, arguments, options):
        features = options["input_features"] if "input_features" in options else arguments[0]
        positions = features.shape[-1] // 2
        encoder.config.max_source_positions = positions
        encoder.embed_positions.num_embeddings = positions

    encoder.register_forward_pre_hook(set_positions, with_kwargs=True)


def window_for(seconds: float, margin: float = MARGIN) -> float:
    """Return the length in seconds of the shortest window with a margin after so many seconds of speech."""
    return min(math.ceil((seconds + margin) / WINDOW_STEP) * WINDOW_STEP, FULL_WINDOW)


def compute_features(processor: WhisperProcessor, waveforms: list[np.ndarray], window: float) -> torch.Tensor:
    """Compute the log-mel features (waveforms, mels, 100 * window) of float32 waveforms at 16 kHz, cut or padded."""
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
    """Transcribe waveforms in batches, with greedy decoding.

    As in the voice-qa pipeline, waveforms of similar length share the shortest window that holds them, and are
    transcribed again in the full window if the text doesn't end or repeats itself. Audio over 30 s is decoded
    sequentially, from timestamp to timestamp.

    Args:
        waveforms: float32 (samples,) at 16 kHz.
        language: ISO 639-1 code; None lets Whisper detect it.
        full_window: use the 30 s window for everything, as the stock pipeline does.
        on_done: called with the number of waveforms of each finished batch, for a progress bar.
    """
    training = whisper.training
    whisper.eval()
    asr = Recognizer(whisper, processor.tokenizer, processor.feature_extractor)
    texts = {}
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
    short = [i for i in order if len(waveforms[i]) <= FULL_WINDOW * SAMPLING_RATE]
    for start in range(0, len(short), batch_size):
        batch = short[start : start + batch_size]
        seconds = len(waveforms[batch[-1]]) / SAMPLING_RATE
        window = FULL_WINDOW if full_window else window_for(seconds, INFERENCE_MARGIN)
        limit = None if window == FULL_WINDOW else SPARE_TOKENS + round(MAX_TOKENS_PER_SECOND * seconds)
        found, unfinished = _transcribe_batch(asr, processor, [waveforms[i] for i in batch], window, language, limit)
        texts |= zip(batch, found, strict=True)
        failed = [i for i, is_open in zip(batch, unfinished, strict=True) if is_open or repeats_itself(texts[i])]
        if failed and window < FULL_WINDOW:
            again, _ = _transcribe_batch(asr, processor, [waveforms[i] for i in failed], FULL_WINDOW, language, None)
            texts |= zip(failed, again, strict=True)
        on_done(len(batch))
    for i in order[len(short) :]:
        texts[i] = hear_long(asr, waveforms[i], language)
        on_done(1)
    whisper.train(training)
    return [texts[i] for i in range(len(waveforms))]


class Recognizer(NamedTuple):
    """The attributes of a speech recognition pipeline that `asr_whisper` uses."""

    model: WhisperForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    feature_extractor: WhisperFeatureExtractor


def _transcribe_batch(asr, processor, waveforms, window, language, limit) -> tuple[list[str], list[bool]]:
    """Return the text of each waveform, and whether it reached `limit` tokens before its end."""
    features = compute_features(processor, waveforms, window).to(asr.model.device, asr.model.dtype)
    encoded = BaseModelOutput(last_hidden_state=asr.model.get_encoder()(features)[0])
    languages = [language] * len(waveforms) if language else detect_languages(asr, encoded)
    return decode(asr, encoded, languages, limit)
