"""Keep the keys and values of prompts, so that instructions and conversations are read once."""

import copy
import inspect
import threading
from typing import NamedTuple

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

MAX_PROMPTS = 16  # kept at once: the instruction, and the conversations that were last continued
MAX_TOKENS = 16_384  # of all that are kept: 0.6 GB of keys and values for Gemma 3 270M in float32


class Sequence(NamedTuple):
    """A sequence that was read: its tokens (tokens,), their keys and values, and how it serves.

    Attributes:
        stem: tokens of the prompt up to the end of the question; the marks that begin an answer may be others later.
        prompt: tokens of the prompt; what follows is the answer.
    """

    tokens: torch.Tensor
    cache: DynamicCache
    stem: int
    prompt: int


class PromptCache:
    """The keys and values of the last few sequences of tokens that a causal model has read.

    A sequence serves a prompt that continues it: one that holds all of the sequence's instruction, turns and question,
    and more. A prompt that shares less is read from the instruction on, so that what comes out for it doesn't depend
    on what other callers asked. Kept tensors are never changed, since appending to them makes new ones, so one
    sequence serves many threads at once.

    Args:
        model: a transformers model.
        size: how many sequences are kept.

    Attributes:
        is_usable: whether the model's cache can hold the keys and values of all tokens.
    """

    def __init__(self, model, size: int = MAX_PROMPTS):
        self.is_usable = _keeps_all_tokens(model)
        self._size = size
        self._kept: list[Sequence] = []  # the last used at the end
        self._lock = threading.Lock()

    def find(self, prompt: torch.Tensor) -> DynamicCache | None:
        """Return a cache, to append to, of what a prompt (tokens,) shares with the sequence it continues, or None."""
        with self._lock:
            shared = [_shared(prompt, sequence) for sequence in self._kept]
            longest = max(shared, default=0)
            if longest == 0:
                return None
            sequence = self._kept.pop(shared.index(longest))
            self._kept.append(sequence)
            cache = copy.copy(sequence.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        surplus = cache.get_seq_length() - longest
        if surplus:
            cache.crop(-surplus)
        return cache

    def keep(self, sequence: Sequence) -> None:
        """Keep a sequence, and forget those that were used least lately if there are too many, or too long ones."""
        with self._lock:
            self._kept = [kept for kept in self._kept if not torch.equal(kept.tokens, sequence.tokens)]
            self._kept = [*self._kept, sequence][-self._size :]
            while len(self._kept) > 1 and sum(len(kept.tokens) for kept in self._kept) > MAX_TOKENS:
                del self._kept[0]

    def clear(self) -> None:
        """Forget all sequences."""
        with self._lock:
            self._kept = []


def _shared(prompt: torch.Tensor, sequence: Sequence) -> int:
    """Return how many tokens of a sequence serve a prompt: 0 unless the prompt continues it."""
    if len(prompt) <= sequence.prompt:
        return 0
    shared = min(len(common_prefix(prompt, sequence.tokens)), len(prompt) - 1)
    return shared if shared >= sequence.stem else 0


def common_prefix(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the tokens that two sequences (tokens,) begin with alike."""
    length = min(len(one), len(other))
    differ = (one[:length] != other[:length]).nonzero()
    return one[: int(differ[0]) if len(differ) else length]


def _keeps_all_tokens(model) -> bool:
    """Return whether a model's cache can hold the keys and values of all tokens.

    Not so a model that keeps a state of its own instead, as Mamba and RWKV do. Layers that attend to a window of
    tokens are kept whole too: transformers masks what lies before the window, and what has left it couldn't be had
    back.
    """
    takes_cache = "past_key_values" in inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder or not takes_cache:
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
