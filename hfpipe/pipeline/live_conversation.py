"""Talk in turns: each question may refer to what was said before."""

import json
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from .audio import SAMPLING_RATE
from .live_endpointer import Endpointer
from .live_listen import answer_turns
from .live_stream import Stream


class Conversation:
    """Ask a pipeline turn after turn, and remember what was asked and what was heard of the answers.

    Args:
        pipe: a `VoiceQAPipeline`.
        history: the turns so far, oldest first, in chat format: a list of `{"role": "user" | "assistant", "content":
            text}`, or the JSON that `to_json` gives.
        options: of every turn, as a call of the pipeline takes them: `system_prompt`, `speaker_wav`, `language` ...

    Attributes:
        history: the turns; a list that may be changed between two of them.
    """

    def __init__(self, pipe, history: list[dict] | str | None = None, **options):
        self.pipe, self.options = pipe, options
        self.history = json.loads(history) if isinstance(history, str) else list(history or [])

    def __call__(self, audio, **options) -> dict:
        """Answer a spoken question, as the pipeline does, and remember it; an error leaves the history as it was."""
        result = self.pipe(audio, history=list(self.history), **{**self.options, **options})
        self._remember(result)
        return result

    def stream(self, audio, **options) -> Stream:
        """Answer a spoken question as events, as the pipeline's `stream` does.

        It is remembered when the last event was read. When the stream is cancelled, only what was heard of the answer
        is, and "…" after it.
        """
        stream = self.pipe.stream(audio, history=list(self.history), **{**self.options, **options})
        stream.on_end = self._remember
        return stream

    def listen(
        self,
        chunks: Iterable,
        *,
        sampling_rate: int = SAMPLING_RATE,
        pause: float | None = None,
        turn_detector: Callable[[np.ndarray], float] | None = None,
        interrupt: bool = True,
        **options,
    ) -> Iterator:
        """Answer live audio turn after turn, until it ends: whoever speaks is answered once they pause.

        Args:
            chunks: an iterable of arrays, (samples,) or (samples, 1), of any length, floats in [-1, 1] or integers:
                a generator, or `iter(queue.get, None)`, that gives them as they are spoken. A thread takes them, also
                while an answer is made. What they raise is raised where the events are read, after the turns that
                ended before.
            sampling_rate: Hz of the chunks.
            pause: seconds of silence that end a turn; by default 0.7, or 4 with a turn detector.
            turn_detector: `hfpipe.smart_turn()`, or another function that takes a turn so far, float32 (samples,) at
                16 kHz, and returns the probability that it is complete. A turn that sounds complete then ends sooner
                than after `pause`; see `Endpointer`.
            interrupt: whether who speaks into an answer stops it. Through loudspeakers, without echo cancellation,
                the answer would hear and stop itself: then give False, and nothing is heard while an answer is made
                or, by the clock, is played.
            options: of every turn.

        Returns:
            An iterator over events. For each turn these are `TurnBegan`, when a player should stop; `TurnEnded`; then
            the events of a stream, up to `Done` or to the next `TurnBegan`; or `Unheard` if no word was understood.

            Take them as they come, and play beside it: while a program plays and takes none, it isn't told that
            somebody speaks. What was heard of an answer is told by the clock, as if each sound was played when it was
            handed out, behind those before it; the history keeps that, and "…" after it. Of an answer that was
            interrupted before its first sound it keeps nothing: what was asked goes on with the next turn.

            It ends with the chunks, with an error of a stage, or when it is closed or left to the garbage collector;
            so do its threads, but for one that waits for a chunk: it ends when that has come.

        Raises:
            TypeError, ValueError: an option that isn't valid.
        """
        self.stream(None, **options)  # refuses options now, and not in the first turn
        return answer_turns(self, chunks, Endpointer(sampling_rate, pause, turn_detector), interrupt, options)

    def to_json(self) -> str:
        """Return the turns as JSON, for `history=`."""
        return json.dumps(self.history, ensure_ascii=False)

    def _remember(self, result: dict) -> None:
        answer = result["answer"] if "audio" in result else result["answer"] + "…"
        self.history.append({"role": "user", "content": result["question"]})
        self.history.append({"role": "assistant", "content": answer})
