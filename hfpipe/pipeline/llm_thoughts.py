"""Tell a reasoning model's thoughts from its answer, also while both are still being generated."""

import re
from collections.abc import Iterable
from typing import NamedTuple

NAME = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)(?::\w+)?"
BRACKETED = r"(?:THINK|THINKING|THOUGHTS?|REASONING)"  # in capitals alone: "[analysis]" may be a footnote
WRAPPED = r"(?:answer|response|solution|output|final|final_answer)"


class Format(NamedTuple):
    """How thoughts are marked in a text, as regular expressions.

    Attributes:
        opening: begins a thought.
        closing: ends it, and is searched for from the beginning of `opening` on.
        close: the text that ends a thought early; None derives it from the text that matched `opening`.
        prompt: what a prompt that has opened a thought ends in; None is `opening`.
        is_prose: whether the opening is made of words, which count at the very beginning of a text alone.
        is_control: whether the opening is made of control tokens, which no sentence mentions without quoting them.
    """

    opening: str
    closing: str
    close: str | None = None
    prompt: str | None = None
    is_prose: bool = False
    is_control: bool = False


FORMATS = (
    Format(rf"<(?i:{NAME})>", rf"</(?i:{NAME})>"),  # Qwen, DeepSeek, GLM, Seed, MiniMax …
    Format(rf"\[{BRACKETED}\]", rf"\[/{BRACKETED}\]"),  # Magistral
    Format(rf"◁{NAME}▷", rf"◁/{NAME}▷"),  # Kimi
    Format(  # Command A, OpenThinker, Solar
        rf"<\|(?i:(?:start_|begin_of_)?{NAME}(?::start)?)\|>",
        rf"<\|(?i:(?:/|end_|end_of_){NAME}|{NAME}:end|end)\|>",
        is_control=True,
    ),
    Format(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "<|inner_suffix|>", is_control=True),  # Apertus
    Format(r"<\|channel>thought", r"<channel\|>", "\n<channel|>", is_control=True),  # Gemma 4
    Format(r"\[unused16\]", r"\[unused17\]", "[unused17]", is_control=True),  # Pangu
    Format(  # gpt-oss: all but its channel "final" is thought
        r"<\|(?:start|channel|message|end|return|call)\|>",
        r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        prompt=r"<\|channel\|>\s*(?:analysis|commentary)\b[^<]*<\|message\|>",
        is_control=True,
    ),
    Format(  # Kimi K3
        r"<\|(?:open|close|end_of_msg)\|>",
        r"<\|open\|>response<\|sep\|>",
        "<|close|>think<|sep|><|open|>response<|sep|>",
        prompt=r"<\|open\|>think<\|sep\|>",
        is_control=True,
    ),
    # gpt-oss behind a server that drops its control tokens
    Format(r"(?:analysis|commentary)(?=[^\W_]|[\"“«¿¡(])", r"assistantfinal", "assistantfinal", is_prose=True),
    Format(  # Granite
        r"Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:", "\nHere is my response:", is_prose=True
    ),
    # Apriel
    Format(r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]", "\n[BEGIN FINAL RESPONSE]\n", is_prose=True),
)  # fmt: skip
PROSE = (  # the openings that are made of words
    *("analysis", "commentary", "Here is my thought process:", "Here's my thought process:"),
    "Here are my reasoning steps:",
)
CONTROL_TOKENS = re.compile(  # of which openings and closings of several tokens are made
    r"<\|(?:start|channel|message|constrain|end|return|call|open|close|sep|end_of_msg|begin|content)\|>"
    r"|<\|channel>|<channel\|>"
)
WRAPPER = re.compile(  # around an answer, at its beginning
    rf"<(?i:{WRAPPED})>|<\|(?i:start_response|begin_of_solution)\|>|<\|begin\|>assistant|<\|content\|>"
)
WRAPPER_END = re.compile(
    rf"</(?i:{WRAPPED})>|<\|(?i:end_response|end_of_solution)\|>|\[END FINAL RESPONSE\]|<\|end\|>"
)
# What may become one of the above, at the end of a text.
UNFINISHED = r"(?:<[|/]?[\w:]*\|?|<\|begin\|>[a-z]*|<\|channel>[a-z]*|\[(?:/?[A-Z ]*|u[a-z]*\d*)|◁/?[\w:]*)\Z"
SENTENCE_END = re.compile(r"[.!?…。！？][\"'»”’)*_]*\Z")
OPENING_QUOTE, CLOSING_QUOTE = "`\"'«“‘", "`\"'»”’"
PUNCTUATION = re.compile(r"[ \t]*(?:[,;)]|\.(?!\.))")
GOES_ON = re.compile(r"[ \t]+[^\W\d_A-ZÀ-ÖØ-Þ]")  # in lower case, as a sentence behind a tag that it mentions


class Reading(NamedTuple):
    """What a text holds that a model has generated so far.

    Attributes:
        answer: the text without thoughts; if more may come, also without an end that may yet begin a thought.
        thinks: the format of the thought that is open at the end of the text, and the text that opened it; or None.
        has_thought: whether the text holds a thought.
        is_late: whether a thought has ended whose beginning wasn't marked, so that a reading of less of the text took
            it for the answer.
    """

    answer: str
    thinks: tuple[Format, str] | None = None
    has_thought: bool = False
    is_late: bool = False


class Thoughts:
    """The formats in which a model may mark its thoughts.

    Args:
        formats: formats to look for besides `FORMATS`, each with its opening as plain text, or None.
    """

    def __init__(self, formats: Iterable[tuple[Format, str | None]] = ()):
        own = list(formats)
        self._formats = (*(form for form, _ in own), *FORMATS)
        tags = [each for each in self._formats if not each.is_prose]
        openings = "|".join(each.opening for each in tags)
        endings = "|".join(rf"(?!<\|end\|>)(?:{each.closing})" for each in tags)
        first = "" if own else r"(?=[<\[◁])"  # which makes the search ten times as fast
        self._tag = re.compile(f"{first}(?:(?P<opening>{openings})|(?P<ending>{endings}))")
        self._ending = re.compile(endings)
        self._signs = re.compile("|".join([*(each.prompt or each.opening for each in tags), endings]))
        beginnings = [re.escape(opening[:i]) for _, opening in own if opening for i in range(1, len(opening))]
        self._unfinished = re.compile("|".join([UNFINISHED, *(rf"{each}\Z" for each in beginnings)]))

    def are_marked_in(self, text: str) -> bool:
        """Return whether a text, such as a chat template, holds marks of thoughts."""
        return bool(self._signs.search(text))

    def end_in(self, text: str) -> bool:
        """Return whether a thought ends in a text."""
        return bool(self._ending.search(text))

    def opened_by(self, prompt: str) -> tuple[Format, str] | None:
        """Return the format of the thought that a prompt has opened at its end, and the opening; None if none."""
        for each in self._formats:
            if found := re.search(rf"({each.prompt or each.opening})\s*\Z", prompt):
                return each, found[1]
        return None

    def read(
        self,
        text: str,
        opened: tuple[Format, str] | None = None,
        may_be_open: bool = False,
        is_whole: bool = True,
    ) -> Reading:
        """Tell the thoughts in a text from the answer.

        A tag within a sentence, or in quotes, is a word of the answer that mentions it.

        Args:
            text: what was generated so far.
            opened: the thought that the prompt opened, as `opened_by` returns it.
            may_be_open: whether the prompt isn't known and may have opened a thought: before one has ended, nothing
                is taken for the answer as long as the text isn't whole.
            is_whole: whether no more text will come.
        """
        answer, position, thinks = "", 0, opened
        has_thought, is_late, is_wrapped, has_mentions = opened is not None, False, False, False
        scanned = 0  # the tags before this are mentions
        while True:
            if thinks:
                end = _end_of_thought(thinks[0], text, position, is_whole)
                has_thought, is_wrapped = True, is_wrapped or thinks[0].is_prose
                if end is None:
                    break
                position, thinks = end, None
            if not answer.strip():
                start = len(text) - len(text[position:].lstrip())
                if wrapper := WRAPPER.match(text, start):
                    position, is_wrapped = wrapper.end(), True
                    continue
                if not has_thought and (prose := self._opening_at(text, start, is_prose=True)):
                    position, thinks = start, prose
                    continue
                if not has_thought and not is_whole and any(each.startswith(text[start:]) for each in PROSE):
                    return Reading("")
                if may_be_open and not has_thought and not self._opening_at(text, start):
                    end = self._first_ending(text, is_whole)
                    if end is None and not is_whole:
                        return Reading("")
                    may_be_open, has_thought, position = False, end is not None, end or position
                    continue
            tag = self._tag.search(text, max(scanned, position))
            if tag is None:
                answer += text[position:] if is_whole else _without_end(self._unfinished, text[position:])
                break
            before = answer + text[position : tag.start()]
            opening = self._opening_at(text, tag.start())
            is_mention = _is_mention(text, tag, before, opening is not None and opening[0].is_control, is_whole)
            if is_mention is None:
                answer = before
                break
            if is_mention or (opening is None and has_mentions):
                scanned, has_mentions = tag.end(), True
            elif opening:
                answer, position, thinks = before, tag.start(), opening
            else:
                is_late = is_late or bool(before.strip())
                answer, position, has_thought = "", tag.end(), True
        if is_wrapped and (wrapper_end := WRAPPER_END.search(answer)):
            answer = answer[: wrapper_end.start()]
        return Reading(answer, thinks, has_thought, is_late)

    def _opening_at(self, text: str, position: int, is_prose: bool = False) -> tuple[Format, str] | None:
        for each in self._formats:
            if each.is_prose == is_prose and (found := re.compile(each.opening).match(text, position)):
                return each, found[0]
        return None

    def _first_ending(self, text: str, is_whole: bool) -> int | None:
        """Return where a thought ends in a text that may have begun as one."""
        for tag in self._ending.finditer(text):
            is_mention = _is_mention(text, tag, text[: tag.start()], False, is_whole)
            if is_mention is None:
                return None
            if not is_mention:
                return tag.end()
        return None


def _without_end(unfinished: re.Pattern, text: str) -> str:
    found = unfinished.search(text)
    return text[: found.start()] if found else text


def closing_of(thought: tuple[Format, str]) -> str:
    """Return the text that ends a thought, as `Thoughts.opened_by` returns it: "</think>" for one in "<think>"."""
    form, opening = thought
    if form.close is not None:
        return form.close
    for start, end in (("START", "END"), ("start", "end"), ("begin", "end")):
        if start in opening:
            return opening.replace(start, end)
    return "\n" + re.sub(r"\A(<\||\W)", r"\1/", opening) + "\n\n"


def _end_of_thought(form: Format, text: str, position: int, is_whole: bool) -> int | None:
    """Return where a thought ends; None if it doesn't in this text. A closing in quotes is one that it mentions."""
    for found in re.compile(form.closing).finditer(text, position):
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        is_quoted = before in OPENING_QUOTE and after in CLOSING_QUOTE
        if not before or not is_quoted or (not after and is_whole):
            return found.end()
        if not after:
            return None
    return None


def _is_mention(text: str, tag: re.Match, before: str, is_control: bool, is_whole: bool) -> bool | None:
    """Return whether the answer mentions a tag, instead of opening or ending a thought; None if it is too early."""
    line, after = before.rpartition("\n")[2], text[tag.end() :]
    if (before and before[-1] in OPENING_QUOTE) or line.count("`") % 2 or before.count("```") % 2:
        return True
    if is_control:
        return False
    if not is_whole and not after[1:].strip(" \t."):
        return None
    if PUNCTUATION.match(after):
        return True
    said = before.rstrip()
    if not said or (len(said) == len(before) and said[-1] not in "([{:"):
        return False  # nothing but a thought stands right behind a word
    if "\n" in before[len(said) :]:
        return said[-1] == ":"
    return not SENTENCE_END.search(said) or bool(GOES_ON.match(after))
