"""Cut an answer that is still being written into what can be said already: a first clause, then whole sentences."""

import re

import numpy as np

from .text_sentences import CLOSING, SENTENCE_END, split_pieces

SHORTEST = 12  # letters and digits; XTTS adds sounds of its own to less (coqui-ai/TTS#3516)
CLAUSE_END = re.compile(r"[,;:—–)](?=\s+\S+\s)")  # with a whole word behind it, so that "1,5" and "3:30" are none

PAUSES = {True: 0.2, False: 0.1}  # seconds after a phrase, by whether it ends a sentence or a line


class Phrases:
    """Takes the text of an answer as it is written, and gives what of it can be said.

    The cuts depend on the text alone and not on how it came: each is decided once the word behind it is whole. The
    phrases hold all of the text, its white space made single blanks, or line breaks within a phrase.

    Args:
        language: ISO 639-1 code of the answer.
    """

    def __init__(self, language: str = "es"):
        self.language = language
        self._waiting = ""  # what was written and not yet said, ending in a whole word and a blank
        self._word = ""  # that is being written
        self._has_begun = False

    def push(self, text: str) -> list[str]:
        """Takes what was written next; gives the phrases that it made whole."""
        *words, self._word = re.split(r"(?<=\s)(?=\S)", self._word + text)
        return [phrase for word in words for phrase in self._take(word)]

    def finish(self) -> list[str]:
        """Gives the phrases that are left when nothing more will be written."""
        text, self._waiting, self._word = self._waiting + self._word, "", ""
        phrases: list[str] = []
        for piece in split_pieces(text, self.language):
            if phrases and _is_short(phrases[-1]):
                phrases[-1] += piece
            else:
                phrases.append(piece)
        if len(phrases) > 1 and _is_short(phrases[-1]):
            phrases[-2:] = ["".join(phrases[-2:])]
        return [phrase.strip() for phrase in phrases]

    def _take(self, word: str) -> list[str]:
        if not word.strip():
            return []
        self._waiting += word.strip() + ("\n" if "\n" in word else " ")
        end = self._find_end()
        if not end:
            return []
        phrase, self._waiting = self._waiting[:end].strip(), self._waiting[end:].lstrip()
        self._has_begun = True
        return [phrase]

    def _find_end(self) -> int:
        """Gives where a phrase ends in what waits, or 0."""
        end = 0
        for piece in split_pieces(self._waiting, self.language)[:-1]:
            end += len(piece)
            if not _is_short(self._waiting[:end]):
                return end
        if not self._has_begun:
            for match in CLAUSE_END.finditer(self._waiting):
                if not _is_short(self._waiting[: match.end()]):
                    return match.end()
        return 0


def split_phrases(text: str, language: str = "es") -> list[str]:
    """Cuts a whole answer as `Phrases` cuts one that is being written."""
    phrases = Phrases(language)
    return [*phrases.push(text), *phrases.finish()]


def pause_after(phrase: str, sampling_rate: int) -> np.ndarray:
    """Gives the silence between a phrase and the next one, float32 (samples,)."""
    ends_sentence = phrase[-1:].isalnum() or phrase.rstrip(CLOSING).endswith(tuple(SENTENCE_END))
    return np.zeros(round(PAUSES[ends_sentence] * sampling_rate), np.float32)


def join_sounds(phrases: list[str], sounds: list[np.ndarray], sampling_rate: int) -> np.ndarray:
    """Joins the sounds of phrases, with the pauses between them: float32 (samples,), none where there is no phrase."""
    pauses = [pause_after(phrase, sampling_rate) for phrase in phrases]
    parts = [part for pair in zip(sounds, pauses, strict=True) for part in pair][:-1]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _is_short(text: str) -> bool:
    return sum(map(str.isalnum, text)) < SHORTEST
