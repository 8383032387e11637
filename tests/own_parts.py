"""Parts of a user's own, that a test can hold back and break."""

import threading
import time

import numpy as np
from conftest import EXAMPLES

from hfpipe.pipeline.engine_cancel import raise_if_cancelled

QUESTION = str(EXAMPLES / "pregunta.wav")
ANSWER = (
    "Por supuesto que sí, te lo explico todo. La capital de Francia es París. Tiene más de dos millones de habitantes."
)
PHRASES = [
    "Por supuesto que sí,",
    "te lo explico todo.",
    "La capital de Francia es París.",
    "Tiene más de dos millones de habitantes.",
]


class Talker:
    """An LLM of the user's own: it writes a given answer word by word, and waits for leave before each word."""

    streams = True

    def __init__(self, answer=ANSWER, fails_at=None):
        self.answer, self.fails_at = answer, fails_at
        self.leave = threading.Semaphore(10_000)

    def __call__(self, question, language, on_text=None, history=None):
        for number, word in enumerate(self.answer.split(" ")):
            while not self.leave.acquire(timeout=0.005):
                raise_if_cancelled()
            if number == self.fails_at:
                raise RuntimeError("the talker lost its tongue")
            raise_if_cancelled()
            if on_text:
                on_text(word if number == 0 else f" {word}")
        return self.answer


class Whistle:
    """A voice of the user's own: a tone as long as the text."""

    sampling_rate = 1000

    def __init__(self, fails_at=None):
        self.said, self.fails_at = [], fails_at

    def __call__(self, text, language, speaker_wav=None):
        if self.fails_at == len(self.said):
            raise ValueError("the whistle broke")
        self.said.append(text)
        return np.full(len(text) * 10, 0.5, np.float32)


def wait_until(true, seconds=20.0) -> bool:
    end = time.monotonic() + seconds
    while not (is_true := bool(true())) and time.monotonic() < end:
        time.sleep(0.005)
    return is_true
