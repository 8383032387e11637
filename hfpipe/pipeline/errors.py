"""The errors that callers tell apart, and an explanation of running out of memory."""

import contextlib
from collections.abc import Iterator

import torch

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate memory")
SMALLER = {
    "asr": "a smaller Whisper (model='openai/whisper-base' or 'openai/whisper-tiny')",
    "llm": "a smaller LLM (llm='Qwen/Qwen2.5-0.5B-Instruct')",
    "tts": "a smaller voice (tts='facebook/mms-tts-spa')",
}


class NoSpeech(ValueError):
    """Nobody speaks in a question, or no word of it is understood."""


class AudioTooLong(ValueError):
    """A recording lasts longer than its caller takes."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that of an allocation, on a GPU or not."""
    text = str(error).lower()
    allocation_failed = "alloc" in text and "memory" in text
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or allocation_failed
        or any(words in text for words in OUT_OF_MEMORY)
    )


@contextlib.contextmanager
def explain_out_of_memory(stage: str) -> Iterator[None]:
    """Turn running out of memory, on a GPU or not, into a MemoryError that names the stage and a smaller model.

    Args:
        stage: "asr", "llm" or "tts".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory in {stage!r} ({error}). Close other programs, or use {SMALLER[stage]}."
        ) from error
