"""Split an answer that is still being generated into phrases to synthesize: a first clause, then whole sentences."""

import re

import numpy as np

from .text_sentences import CLOSING, SENTENCE_END, opens_block, split_pieces

SHORTEST = 12  # letters and digits; XTTS hallucinates sounds for shorter inputs (coqui-ai/TTS#3516)
CLAUSE_END = re.compile(r"[,;:—–)](?=\s+\S+\s)")  # followed by a complete word, which excludes "1,5" and "3:30"

PAUSES = {True: 0.2, False: 0.1}  # seconds of silence after a phrase, by whether it ends a sentence or a line


class Phrases:
    """Splits an answer into phrases incrementally, as its text is generated.

    The phrases depend only on the text, not on how it was divided into calls of `push`: a split is decided once the
    word after it is complete. Together the phrases contain all of the text, with runs of whitespace collapsed to
    single spaces, or to line breaks within a phrase. A code block or a displayed formula is never split.

    Args:
        language: BCP 47 tag of the answer.
    """

    def __init__(self, language: str = "es"):
        self.language = language
        self._waiting = ""  # text not yet returned in a phrase, up to the last complete word and the space after it
        self._word = ""  # the incomplete last word
        self._has_begun = False

    def push(self, text: str) -> list[str]:
        """Append text, and return the phrases that it completes."""
        *words, self._word = re.split(r"(?<=\s)(?=\S)", self._word + text)
        return [phrase for word in words for phrase in self._take(word)]

    def finish(self) -> list[str]:
        """Return the remaining phrases once all of the text was pushed."""
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
        """Return the end of the first complete phrase in the waiting text, or 0 if there is none."""
        *pieces, last = split_pieces(self._waiting, self.language) or [""]
        end = 0
        for piece in pieces:
            end += len(piece)
            if not _is_short(self._waiting[:end]):
                return end
        if not self._has_begun and not opens_block(last.partition("\n")[0]):
            for match in CLAUSE_END.finditer(self._waiting):
                if not _is_short(self._waiting[: match.end()]):
                    return match.end()
        return 0


def split_phrases(text: str, language: str = "es") -> list[str]:
    """Split a complete answer into the same phrases as `Phrases` does incrementally."""
    phrases = Phrases(language)
    return [*phrases.push(text), *phrases.finish()]


def pause_after(phrase: str, sampling_rate: int) -> np.ndarray:
    """Return the silence between a phrase and the next one, float32 of shape (samples,)."""
    ends_sentence = phrase[-1:].isalnum() or phrase.rstrip(CLOSING).endswith(tuple(SENTENCE_END))
    return np.zeros(round(PAUSES[ends_sentence] * sampling_rate), np.float32)


def join_sounds(phrases: list[str], sounds: list[np.ndarray], sampling_rate: int) -> np.ndarray:
    """Concatenate the audio of phrases with the pauses between them: float32 of shape (samples,)."""
    pauses = [pause_after(phrase, sampling_rate) for phrase in phrases]
    parts = [part for pair in zip(sounds, pauses, strict=True) for part in pair][:-1]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _is_short(text: str) -> bool:
    return sum(map(str.isalnum, text)) < SHORTEST
