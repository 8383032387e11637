"""Shared by local and remote LLMs: system prompts, the chat history, and streaming of the answer's text."""

import re
from collections.abc import Callable

from transformers.models.whisper.tokenization_whisper import LANGUAGES

from .text_sentences import split_pieces

SYSTEM_PROMPTS = {  # small models follow a prompt best in the language of the answer
    "es": "Responde en español, en una a tres oraciones, de forma directa y amable. Se leerá en voz alta.",
    "en": "Answer in English, in one to three sentences, directly and kindly. It will be read aloud.",
}
OTHER_SYSTEM_PROMPT = "Answer in {}, in one to three sentences, directly and kindly. It will be read aloud."
THINKING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


class Writer:
    """Streams the text of an answer while it is generated, holding back what may still be removed at the end.

    An answer that reaches its token limit loses its unfinished last sentence, or, if that is its only one, the last
    word. Therefore only complete sentences are passed on, and of a first sentence all but its last word.

    Args:
        language: ISO 639-1 code of the answer.
        on_text: called with each new part of the text; the concatenation of all parts is the answer.
    """

    def __init__(self, language: str, on_text: Callable[[str], None] | None):
        self._language, self._on_text = language, on_text or (lambda text: None)
        self._sent = ""

    def write(self, text: str) -> None:
        """Pass on the new text that is certain to be in the answer.

        Args:
            text: all of the text generated so far.
        """
        pieces = split_pieces(text, self._language)
        self._send(("".join(pieces[:-1]) if len(pieces) > 1 else text.rpartition(" ")[0]).rstrip())

    def finish(self, answer: str) -> str:
        """Pass on the rest of the answer, and return the answer as it was passed on.

        A sentence may have been passed on as complete, continued, and then been truncated: in that case the answer is
        the text that was passed on.
        """
        self._send(answer)
        return answer if answer.startswith(self._sent) else self._sent.strip()

    def _send(self, text: str) -> None:
        if text.startswith(self._sent) and len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text


def tidy(text: str) -> str:
    """Remove `<think>` blocks, and collapse each run of whitespace to a single space or line break."""
    return re.sub(r"\s+", lambda space: "\n" if "\n" in space[0] else " ", THINKING.sub("", text).strip())


def default_system_prompt(language: str) -> str:
    """Return the default system prompt for a language: answer in 1 to 3 sentences, directly and kindly."""
    name = LANGUAGES.get(language, language).title()
    return SYSTEM_PROMPTS.get(language, OTHER_SYSTEM_PROMPT.format(name))


def check_history(history) -> list[dict]:
    """Return the history as a list; raise ValueError if a turn of it isn't in chat format."""
    for turn in history:
        valid = isinstance(turn, dict) and turn.get("role") in ("user", "assistant")
        if not valid or not isinstance(turn.get("content"), str):
            raise ValueError(
                f"history has the turn {turn!r}; valid is a list of turns, oldest first, each "
                "{'role': 'user' or 'assistant', 'content': text}."
            )
    return list(history)
