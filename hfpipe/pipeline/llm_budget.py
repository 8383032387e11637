"""Read the tokens of a chat model that may think before it answers, and limit how long it does."""

import re

import torch
from transformers import PreTrainedTokenizerBase

from .llm_thoughts import CONTROL_TOKENS, FORMATS, Format, Reading, Thoughts, closing_of

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")  # of a tokenizer's response template
CLOSING_ROOM = 32  # tokens, for the text that ends a thought early


class TokenReader:
    """Tell the thoughts in a model's tokens from its answer.

    Args:
        tokenizer: the model's tokenizer. Its chat template, its added tokens and its response template, if it has one,
            tell how thoughts are marked.

    Attributes:
        may_think: whether there is a sign that the model thinks.
        thoughts: the formats that are looked for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        template = getattr(tokenizer, "response_template", None)
        own = _own_formats(template)
        self.thoughts = Thoughts(own)
        signs = f"{tokenizer.chat_template} {' '.join(tokenizer.get_added_vocab())} {template}"
        self.may_think = bool(own) or self.thoughts.are_marked_in(signs) or "<|channel|>" in signs
        special = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        marks = {
            i
            for i, name in special.items()
            if self.thoughts.are_marked_in(name)
            or CONTROL_TOKENS.fullmatch(name)
            or any(opening and name in opening for _, opening in own)
            or any(re.search(form.closing, name) for form, _ in own)
        }
        self._dropped = special.keys() - marks if self.may_think and marks else None

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, without special tokens but those that mark thoughts."""
        if self._dropped is None:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)
        return self._tokenizer.decode([i for i in tokens if i not in self._dropped], skip_special_tokens=False)

    def read(self, tokens: list[int], opened: tuple[Format, str] | None = None, is_whole: bool = True) -> Reading:
        """Tell the thoughts in tokens from the answer; see `Thoughts.read`."""
        return self.thoughts.read(self.decode(tokens), opened, is_whole=is_whole)

    def encode_closing(self, thought: tuple[Format, str]) -> list[int]:
        """Return the tokens that end a thought."""
        return self._tokenizer(closing_of(thought), add_special_tokens=False)["input_ids"]


class ThinkingBudget:
    """Limit the thoughts and the answer of each row of a batch, one after the other, in one call of `generate`.

    When the thoughts have reached their limit, the tokens that end a thought in the model's format are forced, and the
    model goes on with its answer, which the keys and values of the thoughts serve.

    Args:
        reader: reads the model's tokens.
        opened: the thought that the prompts have opened, or None.
        start: tokens of a prompt.
        rows: prompts in the batch.
        max_thinking: tokens of a thought.
        max_answer: tokens of an answer.

    Attributes:
        lengths: for each row, how many tokens it had when its answer reached the limit, or None; padding follows.
    """

    def __init__(self, reader: TokenReader, opened, start: int, rows: int, max_thinking: int, max_answer: int):
        self._reader, self._opened, self._start = reader, opened, start
        self._max_thinking, self._max_answer = max_thinking, max_answer
        self._thinks = [opened] * rows
        self._began: list[int | None] = [None] * rows  # how many tokens stand before each answer, once it is known
        self.lengths: list[int | None] = [None] * rows
        self._forced: list[list[int] | None] = [None] * rows

    def force(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Force the end of thoughts that have reached their limit; a logits processor."""
        made = input_ids.shape[1] - self._start
        for row, thought in enumerate(self._thinks):
            if self._forced[row] is None and thought is not None and made >= self._max_thinking:
                self._forced[row] = self._reader.encode_closing(thought)
            if forced := self._forced[row]:
                scores = scores.clone()
                scores[row] = -torch.inf
                scores[row, forced.pop(0)] = 0.0
        return scores

    def is_spent(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """Return which rows, (rows,) of booleans, have all tokens of their answer; a stopping criterion."""
        made = input_ids.shape[1] - self._start
        for row, began in enumerate(self._began):
            if began is None:
                tokens = input_ids[row, self._start :].tolist()
                reading = self._reader.read(tokens, self._opened, is_whole=False)
                self._thinks[row] = reading.thinks if self._has_begun(reading.thinks, tokens) else None
                if reading.thinks is None and (reading.has_thought or reading.answer.strip()):
                    self._began[row] = made if reading.has_thought else 0
            limit = self._max_answer + (CLOSING_ROOM if self._began[row] is None else 0)  # it may begin to think yet
            is_thinking = self._began[row] is None and self._thinks[row] is not None
            if self.lengths[row] is None and not is_thinking and made - (self._began[row] or 0) >= limit:
                self.lengths[row] = made
        return torch.tensor([length is not None for length in self.lengths], device=input_ids.device)

    def _has_begun(self, thought: tuple[Format, str] | None, tokens: list[int]) -> bool:
        """Return whether a thought has begun in tokens, and not just a header that may become the answer's."""
        if thought is None or thought == self._opened or thought[0].prompt is None:
            return True
        return bool(re.search(thought[0].prompt, self._reader.decode(tokens)))


def _own_formats(template: dict | None) -> list[tuple[Format, str | None]]:
    """Return the formats of thoughts that a tokenizer's response template tells, each with its opening as text.

    Those in `FORMATS` are left out: there it is known when an answer mentions them.
    """
    found = []
    for field in THOUGHT_FIELDS:
        rules = (template or {}).get("fields", {}).get(field)
        if not rules or not ("open" in rules or "open_pattern" in rules):
            continue
        literals = {
            name: [rules[name]] if isinstance(rules.get(name), str) else rules.get(name) for name in ("open", "close")
        }
        if (
            literals["open"]
            and literals["close"]
            and any(
                all(re.fullmatch(form.opening, text) for text in literals["open"])
                and all(re.fullmatch(form.closing, text) for text in literals["close"])
                for form in FORMATS
            )
        ):
            continue
        patterns = [
            "|".join(map(re.escape, literals[name])) if literals[name] else rules.get(f"{name}_pattern", r"\Z")
            for name in ("open", "close")
        ]
        opening, closing = (re.sub(r"\?P<\w+>", "?:", pattern) for pattern in patterns)
        try:
            re.compile(f"{opening}|{closing}")
        except re.error:  # it is written for the regex package
            continue
        close = literals["close"][0] if literals["close"] else None
        found.append(
            (Format(opening, closing, close, is_control=True), literals["open"][0] if literals["open"] else None)
        )
    return found
