"""Talk in turns: each question may refer to what was said before."""

import json

from .stream import Stream


class Conversation:
    """Asks a pipeline turn after turn, and remembers what was asked and what was heard of the answers.

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
        """Answers a spoken question, as the pipeline does, and remembers it; an error leaves the history as it was."""
        result = self.pipe(audio, history=list(self.history), **{**self.options, **options})
        self._remember(result)
        return result

    def stream(self, audio, **options) -> Stream:
        """Answers a spoken question as events, as the pipeline's `stream` does.

        It is remembered when the last event was read. When the stream is cancelled, only what was heard of the answer
        is, and "…" after it.
        """
        stream = self.pipe.stream(audio, history=list(self.history), **{**self.options, **options})
        stream.on_end = self._remember
        return stream

    def to_json(self) -> str:
        """Gives the turns as JSON, for `history=`."""
        return json.dumps(self.history, ensure_ascii=False)

    def _remember(self, result: dict) -> None:
        answer = result["answer"] if "audio" in result else result["answer"] + "…"
        self.history.append({"role": "user", "content": result["question"]})
        self.history.append({"role": "assistant", "content": answer})
