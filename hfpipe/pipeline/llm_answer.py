"""Shared by local and remote LLMs: system prompts, the chat history, and streaming of the answer's text."""

import re
from collections.abc import Callable, Iterable, Mapping

from babel import Locale
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from .llm_thoughts import Reading, Thoughts
from .text_locale import base_language, region_of
from .text_sentences import split_pieces

MAX_NEW_TOKENS = 128  # of an answer: about three spoken sentences
MAX_THINKING_TOKENS = 1024  # of a reasoning model's thoughts, before the answer

SYSTEM_PROMPTS = {  # small models follow a prompt best in the language of the answer
    "es": "Responde en español, en una a tres oraciones, de forma directa y amable. Se leerá en voz alta.",
    "en": "Answer in English, in one to three sentences, directly and kindly. It will be read aloud.",
}
OTHER_SYSTEM_PROMPT = "Answer in {}, in one to three sentences, directly and kindly. It will be read aloud."
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}  # by type, the key
VALID_HISTORY = (
    "valid is a list of turns, oldest first, each {'role': 'user' or 'assistant', 'content': text or a list of "
    "{'type': 'text', 'text': text}}; a 'system' or 'developer' turn may stand before them."
)
THOUGHTS = Thoughts()


class Answer(str):
    """The text of an answer.

    Attributes:
        is_cut: whether it reached the limit on its tokens, and so was cut at a sentence end.
    """

    is_cut: bool

    def __new__(cls, text: str, is_cut: bool = False) -> "Answer":
        answer = super().__new__(cls, text)
        answer.is_cut = is_cut
        return answer


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
        self._sent, self._is_late = "", False

    def write(self, reading: Reading) -> None:
        """Pass on the new text that is certain to be in the answer.

        Args:
            reading: of all of the text generated so far.
        """
        self._is_late = self._is_late or reading.is_late
        text = tidy(reading.answer)
        pieces = split_pieces(text, self._language)
        self._send(("".join(pieces[:-1]) if len(pieces) > 1 else text.rpartition(" ")[0]).rstrip())

    def finish(self, answer: Answer) -> Answer:
        """Pass on the rest of the answer, and return the answer as it was passed on.

        A sentence may have been passed on as complete, continued, and then been truncated: in that case the answer is
        the text that was passed on. It isn't where that turned out to have been a thought.
        """
        self._send(answer)
        is_same = self._is_late or answer.startswith(self._sent)
        return answer if is_same else Answer(self._sent.strip(), answer.is_cut)

    def _send(self, text: str) -> None:
        if text.startswith(self._sent) and len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text


def tidy(text: str) -> str:
    """Collapse each run of whitespace to a single space or line break, with none at the ends."""
    return re.sub(r"\s+", lambda space: "\n" if "\n" in space[0] else " ", text.strip())


def default_system_prompt(language: str) -> str:
    """Return the default system prompt for a language: answer in 1 to 3 sentences, directly and kindly.

    Args:
        language: ISO 639-1 code, or a BCP 47 tag with a region: for "es-MX" the answer is to be in Mexican Spanish.
    """
    base = base_language(language)
    if base == "es":
        return SYSTEM_PROMPTS["es"].replace("español", _variety(language, "es") or "español")
    if base == "en":
        return SYSTEM_PROMPTS["en"].replace("English", _variety(language, "en") or "English")
    return OTHER_SYSTEM_PROMPT.format(_variety(language, "en") or LANGUAGES.get(base, base).title())


def _variety(tag: str, reader: str) -> str:
    """Return what a regional variety of a language is called in the reader's language, "" if the tag names none.

    CLDR has "Mexican Spanish" and "español de México", but no word for most others: "Spanish (Chile)".
    """
    base, region, names = base_language(tag), region_of(tag), Locale(reader)
    language = names.languages.get(base, LANGUAGES.get(base, base).title())
    territory = names.territories.get(region)
    return names.languages.get(f"{base}_{region}", f"{language} ({territory})") if territory else ""


def split_history(history: Iterable, system_prompt: str | None) -> tuple[str | None, list[dict]]:
    """Return the system prompt and the turns of a history, each as `{"role": …, "content": text}`.

    Content in parts is joined, a system or developer turn at the beginning is the system prompt, and thoughts in
    earlier answers are left out.

    Args:
        history: turns in chat format, as OpenAI writes it, oldest first.
        system_prompt: the one that the call gives, or None.

    Raises:
        ValueError: a turn isn't in that form, or there are two system prompts.
    """
    instructions: list[str] = []
    turns: list[dict] = []
    for turn in history:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        text = text_of(content)
        if text is not None and role in ("system", "developer") and not turns:
            instructions.append(text)
        elif text is not None and role in ("user", "assistant"):
            reading = THOUGHTS.read(text) if role == "assistant" else None
            turns.append(
                {"role": role, "content": reading.answer.strip() if reading and reading.has_thought else text}
            )
        else:
            raise ValueError(f"history has the turn {turn!r}; {VALID_HISTORY} {_way_out(turn)}".rstrip())
    if instructions and system_prompt is not None:
        raise ValueError(
            f"history has the instruction {instructions[0]!r}, and system_prompt is {system_prompt!r}; valid is one "
            "of them. Leave out the other."
        )
    return "\n\n".join(instructions) if instructions else system_prompt, turns


def text_of(content) -> str | None:
    """Return the text of a message's content: of a text itself, or of the parts of a list; None if it isn't text.

    Parts that hold thoughts are left out.
    """
    if not isinstance(content, list | tuple):
        return content if isinstance(content, str) else None
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("thinking", "reasoning"):
            continue
        text = part.get(TEXT_PARTS[kind]) if kind in TEXT_PARTS else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "\n".join(texts)


def _way_out(turn) -> str:
    if hasattr(turn, "model_dump"):
        return "Give turn.model_dump() instead."
    if not isinstance(turn, Mapping):
        return ""
    if turn.get("role") in ("tool", "function") or turn.get("tool_calls") or turn.get("function_call"):
        return "Leave out the calls of tools and their results: voice-qa calls no tools."
    if turn.get("role") in ("system", "developer") and text_of(turn.get("content")) is not None:
        return "Move it to the beginning, or give it as system_prompt= instead."
    if isinstance(turn.get("content"), list | tuple):
        return "Leave out the parts that aren't text, or describe them in words."
    return ""


def fold_instruction(system_prompt: str, messages: list[dict]) -> list[dict]:
    """Return messages whose first user turn opens with the instruction, for a model that has no system turn."""
    first = next(i for i, message in enumerate(messages) if message["role"] == "user")
    opened = {"role": "user", "content": f"{system_prompt}\n\n{messages[first]['content']}"}
    return [*messages[:first], opened, *messages[first + 1 :]]
