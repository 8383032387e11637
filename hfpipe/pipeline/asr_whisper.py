"""Hear what is said, with the Whisper of transformers' stock speech recognition pipeline."""

import contextlib
import copy
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from transformers import AutomaticSpeechRecognitionPipeline, GenerationMixin, LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from .asr_beams import search
from .audio import SAMPLING_RATE
from .cpu_precision import choose_precision, convert_linears, fastest_for_prompts
from .engine_cancel import holding
from .errors import NoSpeech
from .logs import quiet_transformers

FULL_WINDOW = 30  # seconds that Whisper was trained to hear at once
SHORT_WINDOWS = (5, 8, 10, 15, 20)  # seconds
POSITIONS_PER_SECOND = 50  # of Whisper's encoder; its features have twice as many frames
MARGIN = 128 / POSITIONS_PER_SECOND  # seconds of silence to leave after the speech (ggml-org/whisper.cpp#1855)

# What a short window that went wrong looks like: it never stops, or says one thing over and over.
MAX_TOKENS_PER_SECOND, SPARE_TOKENS = 8, 10  # speech has about 4
MAX_COMPRESSION = 2.4  # compression_ratio_threshold of openai/whisper, transcribe.py

# Whisper's temperature fallback for a window that repeats itself or that it is unsure of
# (Radford et al. 2022, §4.5; transformers compresses tokens, not letters, so its documentation's threshold is lower).
FALLBACK = {
    "temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "compression_ratio_threshold": 1.35,
    "logprob_threshold": -1.0,
}


def prepare_whisper(model, precision: str = "auto", dtype: torch.dtype | None = None) -> None:
    """Convert a Whisper's layers to the precision that its device computes in; its state dict stays as it was.

    For "auto" the encoder takes the faster of float32 and bfloat16, and the decoder may take int8 weights too: int8
    noise in the encoder costs words, while a decoder's time goes into reading its weights.

    Args:
        model: a `WhisperForConditionalGeneration`, changed in place. One that is quantized or spread over devices
            stays as it is.
        precision, dtype: see `choose_precision`.

    Raises:
        ValueError: no such precision, or not on this device.
    """
    chosen = choose_precision(precision, dtype, model.device)
    if chosen is None or getattr(model, "hf_quantizer", None) or hasattr(model, "hf_device_map"):
        return
    if model.device.type == "cpu":
        convert_linears(model.get_encoder(), fastest_for_prompts() if precision == "auto" else chosen)
        convert_linears(model.get_decoder(), chosen)
        model.proj_out = convert_linears(torch.nn.Sequential(model.proj_out), chosen)[0]
    else:
        model.to(getattr(torch, chosen))


def language_code(language: str | None) -> str | None:
    """Return the code of a language named by code ("es", "es-MX") or in English ("Spanish"); None stays None.

    Raises:
        ValueError: Whisper knows no such language.
    """
    if language is None:
        return None
    name = str(language).lower()
    code = TO_LANGUAGE_CODE.get(name, name.replace("_", "-").split("-")[0])
    if code not in LANGUAGES:
        raise ValueError(
            f"language is {language!r}; valid is a code that Whisper knows, such as 'es', or None to detect."
        )
    return code


def transcribe(
    asr: AutomaticSpeechRecognitionPipeline, questions: list[np.ndarray], language: str | None
) -> list[tuple[str, str]]:
    """Transcribe spoken questions, and detect the language of each.

    Most questions last a few seconds, and Whisper pads them to 30: here its encoder hears a shorter window where one
    leaves a margin, and hears all 30 s only if the text then runs on or repeats itself. Longer questions are heard
    30 s after 30 s, each from where the last sentence ended (Radford et al. 2022, §4.5).

    Args:
        asr: the stock pipeline around a Whisper.
        questions: float32 waveforms of shape (samples,) at 16 kHz.
        language: ISO 639-1 code, or None to detect it.

    Returns:
        For each question its text, and the code of its language.

    Raises:
        NoSpeech: no word was understood.
        ValueError: the Whisper doesn't know the language.
    """
    seconds = max(map(len, questions)) / SAMPLING_RATE
    if len(questions) > 1 and seconds > FULL_WINDOW:
        return [transcribe(asr, [question], language)[0] for question in questions]
    window = next((window for window in SHORT_WINDOWS if seconds + MARGIN <= window), FULL_WINDOW)
    encoded = encode(asr, questions, window) if seconds <= FULL_WINDOW or language is None else None
    languages = [language] * len(questions) if language else detect_languages(asr, encoded)
    if seconds > FULL_WINDOW:
        texts = [hear_long(asr, questions[0], languages[0])]
    elif window == FULL_WINDOW:
        texts = decode_with_beams(asr, encoded, languages)[0]
    else:
        texts = _decode_with_care(asr, encoded, languages, questions, seconds)
    if not all(texts):
        raise NoSpeech("Whisper understood no word of the question. Record it again, nearer to the microphone.")
    return list(zip(texts, languages, strict=True))


def encode(asr: AutomaticSpeechRecognitionPipeline, questions: list[np.ndarray], window: int) -> BaseModelOutput:
    """Encode the first `window` seconds of each question; the states are (questions, 50 * window, d_model)."""
    model = asr.model
    features = asr.feature_extractor(
        questions, sampling_rate=SAMPLING_RATE, max_length=window * SAMPLING_RATE, return_tensors="pt"
    ).input_features
    encoder = model.get_encoder()
    if window != FULL_WINDOW:
        encoder = shorten_encoder(encoder, window * POSITIONS_PER_SECOND)
    with torch.inference_mode():
        return encoder(features.to(model.device, model.dtype))


def shorten_encoder(encoder: WhisperEncoder, positions: int) -> WhisperEncoder:
    """Return an encoder of the same layers that takes the first `positions` alone: transformers refuses other lengths.

    The layers are shared and stay as they are, so both encoders may be used at once.
    """
    config = copy.copy(encoder.config)
    config.max_source_positions, config.encoder_layers = positions, 0  # the layers are put in below
    with torch.device("meta"):
        short = WhisperEncoder(config)
    for name, module in encoder.named_children():
        setattr(short, name, module)
    short.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:positions])
    short.training = encoder.training
    return short


def detect_languages(asr: AutomaticSpeechRecognitionPipeline, encoded: BaseModelOutput) -> list[str]:
    """Return the ISO 639-1 code of the language that Whisper detects in each encoded question."""
    if not asr.model.generation_config.is_multilingual:
        return ["en"] * len(encoded.last_hidden_state)
    tokens = asr.model.detect_language(encoder_outputs=encoded)
    return [token.strip("<|>") for token in asr.tokenizer.convert_ids_to_tokens(tokens.tolist())]


def language_probabilities(
    asr: AutomaticSpeechRecognitionPipeline, encoded: BaseModelOutput
) -> tuple[list[str], np.ndarray]:
    """Return the languages that a multilingual Whisper knows, and how likely each is spoken.

    Returns:
        ISO 639-1 codes; and float32 probabilities of shape (questions, languages).
    """
    model, config = asr.model, asr.model.generation_config
    names = sorted(config.lang_to_id)
    start = torch.full((len(encoded.last_hidden_state), 1), config.decoder_start_token_id, device=model.device)
    with torch.inference_mode():
        logits = model(encoder_outputs=encoded, decoder_input_ids=start).logits[:, -1]
    ids = torch.tensor([config.lang_to_id[name] for name in names], device=model.device)
    return [name.strip("<|>") for name in names], logits[:, ids].float().softmax(dim=-1).cpu().numpy()


def decode(
    asr: AutomaticSpeechRecognitionPipeline,
    encoded: BaseModelOutput,
    languages: list[str],
    max_new_tokens: int | None = None,
) -> tuple[list[str], list[bool]]:
    """Decode what was encoded greedily, all questions at once.

    This is what Whisper's own `generate` does with audio of up to 30 s and no timestamps, without what that prepares
    for more: each of its steps looked up all 50,000 tokens among the suppressed ones, which took a third of the time.

    Args:
        asr: the stock pipeline around a Whisper.
        encoded: what `encode` gave.
        languages: of each question.
        max_new_tokens: None is as many as the Whisper has positions for.

    Returns:
        The texts; and for each whether it reached the limit before it ended.

    Raises:
        ValueError: the Whisper doesn't know the language.
    """
    model, config = asr.model, asr.model.generation_config
    prompts = torch.tensor([prompt_tokens(asr, language) for language in languages], device=model.device)
    length = prompts.shape[1]
    limit = model.config.max_target_positions
    tokens = GenerationMixin.generate(
        model,
        encoder_outputs=encoded,
        decoder_input_ids=prompts,
        logits_processor=[Suppress(config.suppress_tokens, config.begin_suppress_tokens, length, model.device)],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        max_length=limit if max_new_tokens is None else min(limit, length + max_new_tokens),
        num_beams=1,
        do_sample=False,
    )[:, length:]
    ends = torch.tensor(config.eos_token_id, device=tokens.device)
    ran_on = (~torch.isin(tokens, ends).any(dim=1)).tolist()
    return [text.strip() for text in asr.tokenizer.batch_decode(tokens, skip_special_tokens=True)], ran_on


def decode_with_beams(
    asr: AutomaticSpeechRecognitionPipeline,
    encoded: BaseModelOutput,
    languages: list[str],
    max_new_tokens: int | None = None,
) -> tuple[list[str], list[bool]]:
    """Decode what was encoded by a beam search, one question after the other: it gets more words right than `decode`.

    It takes and returns what `decode` does, by which a Whisper that is spread over several devices is decoded.
    """
    model, config = asr.model, asr.model.generation_config
    if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
        return decode(asr, encoded, languages, max_new_tokens)
    texts, ran_on = [], []
    for states, language in zip(encoded.last_hidden_state, languages, strict=True):
        prompt = prompt_tokens(asr, language)
        suppress = Suppress(config.suppress_tokens, config.begin_suppress_tokens, len(prompt), model.device)
        tokens, is_open = search(model, states[None], prompt, suppress, max_new_tokens)
        texts.append(asr.tokenizer.decode(tokens, skip_special_tokens=True).strip())
        ran_on.append(is_open)
    return texts, ran_on


class Suppress(LogitsProcessor):
    """Suppress tokens in a text, and some more of them as its first.

    Args:
        tokens, first: ids, or None.
        length: tokens of the prompt.
        device: of the logits.
    """

    def __init__(self, tokens: list[int] | None, first: list[int] | None, length: int, device):
        self.tokens = torch.tensor(tokens or [], dtype=torch.long, device=device)
        self.first = torch.tensor(first or [], dtype=torch.long, device=device)
        self.length = length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set the logits (questions, vocabulary) of suppressed tokens to minus infinity."""
        scores = scores.index_fill(1, self.tokens, -torch.inf)
        return scores.index_fill(1, self.first, -torch.inf) if input_ids.shape[1] == self.length else scores


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes a text: often, where it repeats itself (openai/whisper, utils.py)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def repeats_itself(text: str) -> bool:
    """Return whether a text compresses so well that it must repeat itself."""
    return compression_ratio(text) > MAX_COMPRESSION


def _decode_with_care(asr, encoded, languages: list[str], questions: list[np.ndarray], seconds: float) -> list[str]:
    """Decode a short window; encode those questions again in full for which that went wrong."""
    texts, ran_on = decode_with_beams(asr, encoded, languages, SPARE_TOKENS + round(MAX_TOKENS_PER_SECOND * seconds))
    wrong = [i for i, text in enumerate(texts) if ran_on[i] or repeats_itself(text)]
    if wrong:
        encoded = encode(asr, [questions[i] for i in wrong], FULL_WINDOW)
        again, _ = decode_with_beams(asr, encoded, [languages[i] for i in wrong])
        for i, text in zip(wrong, again, strict=True):
            texts[i] = text
    return texts


def prompt_tokens(asr: AutomaticSpeechRecognitionPipeline, language: str, task: str = "transcribe") -> list[int]:
    """Return the tokens that prompt Whisper to transcribe a language, or to "translate" it, without timestamps.

    Raises:
        ValueError: the Whisper doesn't know the language.
    """
    config = asr.model.generation_config
    names = ["<|notimestamps|>"]
    if config.is_multilingual:
        # Whisper with neither language nor task degenerates into one repeated word, so both are always given.
        names = [f"<|{language}|>", f"<|{task}|>", *names]
    ids = asr.tokenizer.convert_tokens_to_ids(names)  # the whole vocabulary would take 20 ms
    if ids[0] is None or asr.tokenizer.convert_ids_to_tokens(ids[0]) != names[0]:
        known = sorted(name.strip("<|>") for name in config.lang_to_id)
        raise ValueError(f"this Whisper doesn't know the language {language!r}; it knows {', '.join(known)}.")
    return [config.decoder_start_token_id, *ids]


def hear_long(asr: AutomaticSpeechRecognitionPipeline, samples: np.ndarray, language: str | None) -> str:
    """Transcribe audio of any length at 16 kHz, window after window, each from where the last sentence ended."""
    model = asr.model
    inputs = asr.feature_extractor(
        samples,
        sampling_rate=SAMPLING_RATE,
        truncation=False,
        padding="longest",
        return_attention_mask=True,
        return_tensors="pt",
    )
    # Without the task Whisper degenerates into one repeated word; a model of English alone takes neither.
    said = {"task": "transcribe", "language": language} if model.generation_config.is_multilingual else {}
    # It warns of arguments that Whisper's own code sets.
    with torch.inference_mode(), fixed_seed(), quiet_transformers():
        tokens = model.generate(
            input_features=inputs.input_features.to(model.device, model.dtype),
            attention_mask=inputs.attention_mask.to(model.device),
            return_timestamps=True,  # by which it goes from window to window
            num_beams=1,
            return_dict_in_generate=False,
            **FALLBACK,
            **said,
        )
    return asr.tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip()


_seeding = threading.Lock()  # torch's generator is one for all threads


@contextlib.contextmanager
def fixed_seed() -> Iterator[None]:
    """Seed torch's generator within the block, and restore it after it; blocks of several threads take turns."""
    with holding(_seeding), torch.random.fork_rng():
        torch.manual_seed(0)
        yield
