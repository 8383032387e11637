"""Answer with an LLM that runs elsewhere, behind a server that speaks OpenAI's protocol."""

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .engine_cancel import raise_if_cancelled
from .llm_answer import (
    MAX_NEW_TOKENS,
    MAX_THINKING_TOKENS,
    THOUGHTS,
    Answer,
    Writer,
    default_system_prompt,
    fold_instruction,
    split_history,
    text_of,
    tidy,
)
from .logs import logger
from .text_sentences import cut_at_sentence

KEY = "OPENAI_API_KEY"  # the environment variable that holds the server's key, if it wants one
TIMEOUT = 60.0  # seconds without a word from the server
RETRIES = 3  # after a lost connection, an overloaded server or one that fails; each waits twice as long
ADAPTATIONS = 3  # requests that are put differently after the first: see `_Dialect`
REASONERS = re.compile(  # names of models that think, perhaps in a thought that the prompt opens
    r"think|reason|qwq|qwen-?3\.[5-9]|deepseek-?r|\br1\b|magistral|gpt-?oss|\bo[1-9]\b|glm-?[45]|minimax-?m|seed-?oss",
    re.IGNORECASE,
)
# How thoughts begin, and few answers. What begins so is passed on only once it has turned out to be an answer.
ALOUD = re.compile(
    r"\W*(okay|ok|alright|all right|h+m+|m+h*m+|let me|let's|let us|we (need|are|have|must|should)"
    r"|i (need|should|have)|the (user|question)|user|first|so|wait|thinking process|vale|bueno|bien|veamos|vamos|a ver"
    r"|el usuario|la pregunta|primero|necesito|tengo que|entonces|debo)\b",
    re.IGNORECASE,
)
ALOUD_LENGTH = 16  # characters, by which it can be told
LIMIT_REFUSED = re.compile(
    r"max_completion_tokens|\bmax_tokens\b.{0,60}\b(unsupported|not (supported|permitted|allowed))"
    r"|\b(unsupported|unrecognized|unknown|unexpected|extra)\b.{0,60}\bmax_tokens\b",
    re.IGNORECASE | re.DOTALL,
)
TOO_LARGE = re.compile(r"too (large|long|many)|at most|maximum|exceed", re.IGNORECASE)
SYSTEM_REFUSED = re.compile(
    r"\b(system|developer)\b.{0,80}(\bnot\b|n't\b|\bunsupported|\binvalid|\bonly\b|\bcannot\b|\bunknown)"
    r"|(\bnot\b|n't\b|\bunsupported|\binvalid|\bcannot\b|\bunknown).{0,80}\b(system|developer)\b"
    r"|\broles?\b",  # one that is unknown, unexpected, or doesn't alternate with the others
    re.IGNORECASE | re.DOTALL,
)


class _Dialect(NamedTuple):
    """What a server and its model have turned out to want, or to do.

    Attributes:
        limit: the name of the limit on new tokens.
        folds: whether the instruction opens the first user turn, for want of a system turn.
        thinks: whether the model thinks, so that the limit has to leave room for it.
        opens: whether the prompt, which only the server sees, may open the thought.
    """

    limit: str = "max_tokens"
    folds: bool = False
    thinks: bool = False
    opens: bool = False


class _Reply(NamedTuple):
    """What a server sent.

    Attributes:
        pieces: of the text, as they came.
        reason: why it ended.
        refusal: what the model said instead of an answer.
        has_thought: whether thoughts came apart from the text.
    """

    pieces: list[str]
    reason: str | None
    refusal: str
    has_thought: bool


class RemoteLLM:
    """Answer questions, shortly, through a server: llama.cpp, vLLM, Ollama, TGI, OpenAI …

    It is never saved with a pipeline: whoever loaded that would send their questions to this server.

    Thoughts are left out, whether the server sends them apart or in the text. A prompt that begins the thought leaves
    only its end in the text, and the prompt isn't seen here. Therefore nothing is passed on before the thought, or the
    text, has ended if the model's name tells that it thinks, or if the text begins as thoughts do ("Okay, the user").
    Let the server send thoughts apart where it can: vLLM does with `--reasoning-parser`, llama.cpp and Ollama anyhow.

    Args:
        url: where the server's API begins, such as "http://localhost:8080/v1".
        model: the model's name there; None is the first that the server lists.
        timeout: seconds without a word from the server after which it is given up.

    Attributes:
        streams: True: a call takes `on_text=`.
        batches: True: a call takes a list of questions.
        regions: True: a call takes a language with its region, such as "es-MX".

    Raises:
        ImportError: the openai package is missing.
    """

    streams = batches = regions = True

    def __init__(self, url: str, model: str | None = None, timeout: float = TIMEOUT):
        try:
            import openai
        except ImportError as error:
            raise ImportError("an LLM on a server needs openai: pip install 'hfpipe[remote]'") from error
        self.url, self.model = url, model
        self._openai = openai
        self._dialect = _Dialect()  # immutable and replaced whole, so that threads need no lock
        self._client = openai.OpenAI(
            base_url=url, api_key=os.environ.get(KEY) or "none", timeout=timeout, max_retries=RETRIES
        )

    def __call__(
        self,
        question: str | list[str],
        language: str = "es",
        system_prompt: str | None = None,
        history: list[dict] | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        on_text: Callable[[str], None] | None = None,
        max_thinking_tokens: int = MAX_THINKING_TOKENS,
        **options,
    ):
        """Answer a question, or each of a list of them, as `LLM` does.

        Args:
            question, language, system_prompt, history, max_new_tokens, on_text: see `LLM`.
            max_thinking_tokens: room for the thoughts of a model that thinks: servers limit thoughts and answer
                together, so this comes on top of `max_new_tokens`. An answer is ended after `max_new_tokens` pieces
                from the server, most of which are one token.
            options: for the server: `temperature`, `top_p`, `seed` …

        Raises:
            OSError: the server can't be reached, in time, or fails. PermissionError: it refuses the key.
            ValueError: it refuses the request, or the history isn't in that form.
            RuntimeError: the model answered nothing, only thought, or refused to answer.
        """
        if not isinstance(question, str):
            given: dict[str, Any] = {"history": history, "max_new_tokens": max_new_tokens}
            given |= {"max_thinking_tokens": max_thinking_tokens, **options}
            return [self(text, language, system_prompt, **given) for text in question]
        system_prompt, turns = split_history(history or [], system_prompt)
        instruction = default_system_prompt(language) if system_prompt is None else system_prompt
        turns = [*turns, {"role": "user", "content": question}]
        writer = Writer(language, on_text)
        with self._explained():
            model = self.model = self.model or self._first_model()
            dialect = self._dialect
            if REASONERS.search(model):
                dialect = dialect._replace(thinks=True, opens=True)
            for left in reversed(range(ADAPTATIONS + 1)):
                messages = [{"role": "system", "content": instruction}, *turns]
                if dialect.folds:
                    messages = fold_instruction(instruction, turns)
                room = max_new_tokens + (max_thinking_tokens if dialect.thinks else 0)
                request = {"model": model, "messages": messages, dialect.limit: room, **options}
                try:
                    reply = self._ask(request, writer, dialect, max_new_tokens)
                except self._openai.APIStatusError as error:
                    adapted = _adapted(dialect, error)
                    if adapted == dialect or not left:
                        raise
                    dialect = adapted
                    continue
                may_be_open = _may_be_open(dialect, reply)
                reading = THOUGHTS.read("".join(reply.pieces), may_be_open=may_be_open)
                has_thought = reply.has_thought or reading.has_thought
                opens = dialect.opens or reading.is_late or (may_be_open and reading.has_thought)
                self._dialect = dialect._replace(thinks=self._dialect.thinks or has_thought, opens=opens)
                is_unsure = not reading.answer.strip() or (may_be_open and not has_thought)
                if dialect.thinks or reply.reason != "length" or not is_unsure:
                    break
                dialect = dialect._replace(thinks=True, opens=opens)
        return self._finish(reply, question, language, writer, may_be_open, max_new_tokens)

    def _first_model(self) -> str:
        models = self._client.models.list().data
        if not models:
            raise ValueError(f"the server at {self.url} lists no model. Name one: llm=RemoteLLM(url, 'its name').")
        return models[0].id

    def _ask(self, request: dict[str, Any], writer: Writer, dialect: _Dialect, max_new_tokens: int) -> _Reply:
        """Send a request, and pass on what comes of the answer, up to `max_new_tokens` pieces of it."""
        reply, answered = _Reply([], None, "", False), 0
        chunks = self._client.chat.completions.create(stream=True, **request)
        with chunks:
            for chunk in chunks:
                raise_if_cancelled()
                if not chunk.choices:  # of usage, or of what a filter found in the question
                    continue
                choice = chunk.choices[0]
                reply = reply._replace(reason=choice.finish_reason or reply.reason)
                delta = choice.delta
                if delta is None:
                    continue
                if _holds_thought(delta):
                    reply = reply._replace(has_thought=True)
                reply = reply._replace(refusal=reply.refusal + (getattr(delta, "refusal", None) or ""))
                piece = text_of(delta.content)
                if not piece:
                    continue
                reply.pieces.append(piece)
                text = "".join(reply.pieces)
                is_short = not reply.has_thought and len(text.strip()) < ALOUD_LENGTH
                reading = THOUGHTS.read(text, may_be_open=is_short or _may_be_open(dialect, reply), is_whole=False)
                writer.write(reading)
                answered += bool(reading.answer.strip()) and reading.thinks is None
                if dialect.thinks and answered >= max_new_tokens:
                    return reply._replace(reason=reply.reason or "length")
        return reply

    def _finish(
        self, reply: _Reply, question: str, language: str, writer: Writer, may_be_open: bool, max_new_tokens: int
    ) -> Answer:
        """Return the answer in a reply, cut at a sentence end where it ran into the limit."""
        pieces, is_cut = reply.pieces, reply.reason == "length"
        reading = THOUGHTS.read("".join(pieces), may_be_open=may_be_open)
        has_thought = reading.has_thought or reply.has_thought
        if may_be_open and not has_thought:
            if is_cut:
                reading, has_thought = reading._replace(answer=""), True  # it was still thinking
            elif len(pieces) > max_new_tokens:  # it had room to think, and answered at once
                reading, is_cut = THOUGHTS.read("".join(pieces[:max_new_tokens])), True
        if reading.is_late and not may_be_open:
            logger.warning(
                "the LLM at %s leaves thoughts in the text without a mark at their beginning, so some may have been "
                "spoken. From now on its answers are passed on only after a thought has ended. Better have the server "
                "send thoughts apart (vLLM: --reasoning-parser).",
                self.url,
            )
        answer = tidy(reading.answer)
        if answer:
            return writer.finish(Answer(cut_at_sentence(answer, language) if is_cut else answer, is_cut))
        if reply.refusal.strip():
            raise RuntimeError(f"the LLM at {self.url} refuses to answer {question!r}: {tidy(reply.refusal)}")
        if reply.reason == "content_filter":
            raise RuntimeError(f"a filter of the server at {self.url} held back the answer to {question!r}.")
        if has_thought:
            raise RuntimeError(
                f"the LLM at {self.url} only thought about {question!r}, and answered nothing (it ended with "
                f"{reply.reason!r}). Raise max_thinking_tokens (through the pipeline, "
                "generate_kwargs={'max_thinking_tokens': ...}), or try another model or prompt."
            )
        raise RuntimeError(f"the LLM at {self.url} answered nothing to {question!r}. Try another model or prompt.")

    @contextlib.contextmanager
    def _explained(self):
        """Raise errors that say what to do if the server can't be reached or refuses."""
        try:
            yield
        except self._openai.APITimeoutError as error:
            raise TimeoutError(
                f"the LLM at {self.url} said nothing in time, {RETRIES + 1} times. It may be busy, or still loading: "
                "give it time, llm=RemoteLLM(url, timeout=300)."
            ) from error
        except self._openai.APIConnectionError as error:
            raise ConnectionError(
                f"there is no LLM at {self.url} ({error.__cause__ or error}). Start its server, or correct llm=: it "
                "is where the server's API begins, such as http://localhost:8080/v1."
            ) from error
        except (self._openai.AuthenticationError, self._openai.PermissionDeniedError) as error:
            raise PermissionError(
                f"the LLM at {self.url} refuses the key ({error.status_code}). Put the right one into the environment "
                f"variable {KEY}."
            ) from error
        except self._openai.APIStatusError as error:
            kind = OSError if error.status_code >= 500 else ValueError
            raise kind(f"the LLM at {self.url} answered {error.status_code}: {error.message[:300]}") from error
        except self._openai.APIError as error:  # within the stream
            raise OSError(f"the LLM at {self.url} broke off: {error.message[:300]}") from error


def _adapted(dialect: _Dialect, error) -> _Dialect:
    """Return a dialect in which a server may take what it refused with a status error, or the same dialect."""
    said = f"{error.message} {error.body}"
    if error.status_code not in (400, 422, 500):
        return dialect
    if dialect.limit == "max_tokens" and LIMIT_REFUSED.search(said) and not TOO_LARGE.search(said):
        return dialect._replace(limit="max_completion_tokens")
    return dialect._replace(folds=True) if SYSTEM_REFUSED.search(said) else dialect


def _may_be_open(dialect: _Dialect, reply: _Reply) -> bool:
    """Return whether a reply may begin within a thought."""
    return not reply.has_thought and (dialect.opens or bool(ALOUD.match("".join(reply.pieces))))


def _holds_thought(delta) -> bool:
    """Return whether a piece from the server holds a thought apart from the answer's text."""
    apart = [getattr(delta, name, None) for name in ("reasoning_content", "reasoning")]
    parts = delta.content if isinstance(delta.content, list) else []
    return any(apart) or any(isinstance(part, dict) and part.get("type") == "thinking" for part in parts)
