"""What LLMs here and elsewhere share: the instruction, the history, and the text as it is written."""

import re
from collections.abc import Callable

from transformers.models.whisper.tokenization_whisper import LANGUAGES

from .text_sentences import split_pieces

SYSTEM_PROMPTS = {  # a small model obeys best in the language that it is to answer in
    "es": "Responde en español, en una a tres oraciones, de forma directa y amable. Se leerá en voz alta.",
    "en": "Answer in English, in one to three sentences, directly and kindly. It will be read aloud.",
}
OTHER_SYSTEM_PROMPT = "Answer in {}, in one to three sentences, directly and kindly. It will be read aloud."
THINKING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


class Writer:
    """Takes an answer's text as it grows, and passes on what of it the answer is sure to hold.

    Should the answer run into its limit, its last sentence is cut off, and the only one loses its last word.

    Args:
        language: ISO 639-1 code of the answer.
        on_text: is called with the next words; joined as they are, they are the answer.
    """

    def __init__(self, language: str, on_text: Callable[[str], None] | None):
        self._language, self._on_text = language, on_text or (lambda text: None)
        self._sent = ""

    def write(self, text: str) -> None:
        """Takes all that is written by now."""
        pieces = split_pieces(text, self._language)
        self._send(("".join(pieces[:-1]) if len(pieces) > 1 else text.rpartition(" ")[0]).rstrip())

    def finish(self, answer: str) -> str:
        """Passes on the rest of the answer, and returns it.

        A sentence that seemed to end, and was sent, may have gone on and been cut off: then what was sent stands.
        """
        self._send(answer)
        return answer if answer.startswith(self._sent) else self._sent.strip()

    def _send(self, text: str) -> None:
        if text.startswith(self._sent) and len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text


def tidy(text: str) -> str:
    """Leaves out what was only thought, and makes white space single blanks, or line breaks where lines end."""
    return re.sub(r"\s+", lambda space: "\n" if "\n" in space[0] else " ", THINKING.sub("", text).strip())


def default_system_prompt(language: str) -> str:
    """Gives the default instruction for an answer in a language: 1 to 3 sentences, direct and kind."""
    name = LANGUAGES.get(language, language).title()
    return SYSTEM_PROMPTS.get(language, OTHER_SYSTEM_PROMPT.format(name))


def check_history(history) -> list[dict]:
    """Gives the history as a list; raises ValueError where a turn of it isn't in chat format."""
    for turn in history:
        valid = isinstance(turn, dict) and turn.get("role") in ("user", "assistant")
        if not valid or not isinstance(turn.get("content"), str):
            raise ValueError(
                f"history has the turn {turn!r}; valid is a list of turns, oldest first, each "
                "{'role': 'user' or 'assistant', 'content': text}."
            )
    return list(history)
