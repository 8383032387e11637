"""Compute the next tokens of many answers in one forward pass of the language model.

Each answer is generated in a thread of its own, with its own options, stream, end and kept keys and values; only where
the model is called do they meet. A pass reads all weights however many tokens it takes, which is what most of its time
goes into, so that one for eight answers costs little more than one for a single answer. Answers join and leave between
two passes (continuous batching, Yu et al. 2022, Orca).
"""

import copy
import functools
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..pipeline.engine_cancel import POLL, current_token, raise_if_cancelled
from ..pipeline.llm_local import LLM
from ..pipeline.logs import logger

MAX_ROWS = 16  # answers in one pass
MAX_TOKENS = 256  # of one answer in one pass: a long prompt is read in pieces, between which others go on
PATIENCE = 0.03  # seconds to wait for answers of the last pass whose next token is being chosen
ATTENTION = "hfpipe_rows"
INPUTS = {  # those of a forward pass of one row
    *("input_ids", "position_ids", "past_key_values", "attention_mask"),
    *("use_cache", "logits_to_keep", "return_dict"),
}
PROBES = [[1, 2, 3, 4, 5], [6, 7, 8]]  # tokens; any will do


def batched(llm: Any) -> Any:
    """Return a language model whose calls from several threads share their forward passes.

    Args:
        llm: any part that thinks.

    Returns:
        A copy of an `LLM`, on the same weights; any other part as it is, and so an `LLM` whose architecture can't be
        batched: an encoder-decoder, or one whose layers keep a state or whose attention is of a kind of its own.
    """
    # By name: the code that a repo brings along has classes of its own.
    if type(llm).__name__ != LLM.__name__ or not _can_pack(llm.model):
        return llm
    llm = copy.copy(llm)
    llm.model = copy.copy(llm.model)
    llm.model.forward = Batcher(llm.model)
    return llm


def is_batched(llm: Any) -> bool:
    """Return whether calls of a language model share their forward passes."""
    return isinstance(getattr(getattr(llm, "model", None), "forward", None), Batcher)


@dataclass(eq=False)
class Pass:
    """What one answer asks of the model: to read tokens after those in its cache, and the logits of the last."""

    tokens: torch.Tensor  # (1, tokens)
    positions: torch.Tensor  # (1, tokens)
    cache: DynamicCache
    thread: int = field(default_factory=threading.get_ident)
    logits: Future = field(default_factory=Future)


class Batcher:
    """A causal model's `forward` that waits for those of other threads, and computes all in one pass.

    Inputs that no pass of one row has, such as several rows, are computed as they come.

    Args:
        model: whose `forward` this replaces.
    """

    def __init__(self, model):
        self._forward = model.forward
        self._waiting: list[Pass] = []
        self._due: set[int] = set()  # threads of the last pass that are about to ask for the next
        self._changed = threading.Condition()
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="hfpipe-llm")
        functools.update_wrapper(self, self._forward)  # `generate` looks at the signature

    def __call__(self, **inputs: Any) -> Any:
        """Return the logits (1, 1, vocabulary) of the last token; a thread that is cancelled leaves at once."""
        tokens, cache = inputs.get("input_ids"), inputs.get("past_key_values")
        if inputs.keys() - INPUTS or tokens is None or len(tokens) != 1 or cache is None:
            return self._forward(**inputs)
        positions = inputs.get("position_ids")
        if positions is None:
            start = cache.get_seq_length()
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
        pieces = zip(tokens.split(MAX_TOKENS, dim=1), positions.split(MAX_TOKENS, dim=1), strict=True)
        for piece in pieces:
            logits = self._wait_for(Pass(*piece, cache))
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

    def _wait_for(self, asked: Pass) -> torch.Tensor:
        raise_if_cancelled()
        with self._changed:
            self._waiting.append(asked)
            self._due.discard(asked.thread)
            self._changed.notify()
            self._owner.submit(self._compute)
        token = current_token()
        while True:
            try:
                return asked.logits.result(POLL)
            except TimeoutError:
                if token is not None and token.is_cancelled:
                    asked.logits.cancel()
                    raise_if_cancelled()

    def _compute(self) -> None:
        """Compute what waits, once those of the last pass are there again."""
        with self._changed:
            if not self._waiting:
                return
            while self._due and self._changed.wait(PATIENCE):
                pass  # somebody came
            taken, self._waiting = self._waiting[:MAX_ROWS], self._waiting[MAX_ROWS:]
            rows = [asked for asked in taken if asked.logits.set_running_or_notify_cancel()]
            self._due = {row.thread for row in rows}
        try:
            results = self._pass_for(rows)
        except BaseException as error:
            for row in rows:
                row.logits.set_exception(error)
        else:
            for row, logits in zip(rows, results, strict=True):
                row.logits.set_result(logits)

    @torch.inference_mode()
    def _pass_for(self, rows: list[Pass]) -> list[torch.Tensor]:
        """Return the logits (1, 1, vocabulary) of each row's last token."""
        if not rows:
            return []
        if len(rows) == 1:
            options = {"position_ids": rows[0].positions, "past_key_values": rows[0].cache}
            return [self._forward(input_ids=rows[0].tokens, logits_to_keep=1, **options).logits]
        return pack(self._forward, rows)


def pack(forward, rows: list[Pass]) -> list[torch.Tensor]:
    """Compute rows as one sequence, in which each attends to its own tokens alone; return the logits of each."""
    lengths = [row.tokens.shape[1] for row in rows]
    tokens = torch.cat([row.tokens for row in rows], dim=1)
    output = forward(
        input_ids=tokens,
        position_ids=torch.cat([row.positions for row in rows], dim=1),
        past_key_values=_Caches([row.cache for row in rows], lengths),
        attention_mask=tokens.new_zeros(1, 1, 1, 1, dtype=torch.bool),  # one of 4 dimensions is passed on as it is
        logits_to_keep=torch.tensor(lengths, device=tokens.device).cumsum(0) - 1,
    )
    return list(output.logits.split(1, dim=1))


class _Rows(NamedTuple):
    """The keys, or the values, of each row: (1, heads, tokens so far, width)."""

    rows: list[torch.Tensor]
    lengths: list[int]  # of the new tokens


class _Caches:
    """The caches of rows that are computed as one sequence."""

    def __init__(self, caches: list[DynamicCache], lengths: list[int]):
        self._caches, self._lengths = caches, lengths

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *args, **kwargs) -> tuple[_Rows, _Rows]:
        """Append to each row's cache what was computed for it."""
        pieces = zip(keys.split(self._lengths, dim=2), values.split(self._lengths, dim=2), strict=True)
        pairs = [cache.update(*new, layer) for cache, new in zip(self._caches, pieces, strict=True)]
        return _Rows([pair[0] for pair in pairs], self._lengths), _Rows([pair[1] for pair in pairs], self._lengths)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: the rows' positions are given."""
        return 0


def _attend(module, query, key, value, attention_mask, sliding_window: int | None = None, **options):
    """Attend as "sdpa" does; from the rows of one sequence to each row's own keys."""
    if not isinstance(key, _Rows):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **options
        )
    attended = []
    for asked, keys, values in zip(query.split(key.lengths, dim=2), key.rows, value.rows, strict=True):
        count = asked.shape[2]
        if sliding_window is not None:
            keys, values = (each[:, :, -(sliding_window + count - 1) :] for each in (keys, values))
        mask = None if count == 1 else _causal_mask(count, keys.shape[2], sliding_window, keys.device)
        attended.append(sdpa_attention_forward(module, asked, keys, values, mask, **options)[0])
    return torch.cat(attended, dim=1), None


def _causal_mask(count: int, total: int, sliding_window: int | None, device) -> torch.Tensor:
    """Return (count, total) of booleans: which of all tokens each of the last ones attends to."""
    mask = torch.ones(count, total, dtype=torch.bool, device=device).tril(total - count)
    return mask if sliding_window is None else mask.triu(total - count - sliding_window + 1)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _can_pack(model) -> bool:
    """Return whether a model computes packed rows as it does each alone; lets it attend to rows."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    takes = inspect.signature(model.forward).parameters
    if model.config._attn_implementation == ATTENTION:
        return True  # it was found out before
    if (
        model.config.is_encoder_decoder
        or model.config._attn_implementation != "sdpa"
        or not kinds <= {"full_attention", "sliding_attention"}
        or not {"input_ids", "position_ids", "past_key_values", "logits_to_keep"} <= takes.keys()
    ):
        return False
    model.set_attn_implementation(ATTENTION)
    if _packs_well(model):
        return True
    logger.warning("%s can't answer several questions in one pass; each is answered alone", type(model).__name__)
    model.set_attn_implementation("sdpa")
    return False


@torch.inference_mode()
def _packs_well(model) -> bool:
    """Return whether two rows in one pass get the logits that each gets alone, but for rounding."""
    prompts = [torch.tensor([tokens], device=model.device) for tokens in PROBES]
    alone = torch.cat([model(input_ids=tokens, use_cache=False).logits[:, -1:] for tokens in prompts])
    try:
        rows = [
            Pass(tokens, torch.arange(tokens.shape[1])[None].to(tokens.device), DynamicCache()) for tokens in prompts
        ]
        together = torch.cat(pack(model.forward, rows))
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):  # it isn't made as most models are
        return False
    return bool((together - alone).abs().mean() < 0.05 * alone.std())
