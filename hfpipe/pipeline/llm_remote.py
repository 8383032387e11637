"""Answer with an LLM that runs elsewhere, behind a server that speaks OpenAI's protocol."""

import contextlib
import os
from collections.abc import Callable

from .engine_cancel import raise_if_cancelled
from .llm_answer import Writer, check_history, default_system_prompt, tidy
from .text_sentences import cut_at_sentence

KEY = "OPENAI_API_KEY"  # the environment variable that holds the server's key, if it wants one
TIMEOUT = 60.0  # seconds without a word from the server
RETRIES = 3  # after a lost connection, an overloaded server or one that fails; each waits twice as long


class RemoteLLM:
    """Answer questions, shortly, through a server: llama.cpp, vLLM, Ollama, TGI, OpenAI …

    It is never saved with a pipeline: whoever loaded that would send their questions to this server.

    Args:
        url: where the server's API begins, such as "http://localhost:8080/v1".
        model: the model's name there; None is the first that the server lists.
        timeout: seconds without a word from the server after which it is given up.

    Attributes:
        streams: True: a call takes `on_text=`.
        batches: True: a call takes a list of questions.

    Raises:
        ImportError: the openai package is missing.
    """

    streams = batches = True

    def __init__(self, url: str, model: str | None = None, timeout: float = TIMEOUT):
        try:
            import openai
        except ImportError as error:
            raise ImportError("an LLM on a server needs openai: pip install 'hfpipe[remote]'") from error
        self.url, self.model = url, model
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=url, api_key=os.environ.get(KEY) or "none", timeout=timeout, max_retries=RETRIES
        )

    def __call__(
        self,
        question: str | list[str],
        language: str = "es",
        system_prompt: str | None = None,
        history: list[dict] | None = None,
        max_new_tokens: int = 128,
        on_text: Callable[[str], None] | None = None,
        **options,
    ):
        """Answer a question, or each of a list of them, as `LLM` does.

        Args:
            question, language, system_prompt, history, max_new_tokens, on_text: see `LLM`.
            options: for the server: `temperature`, `top_p`, `seed` …

        Raises:
            OSError: the server can't be reached, in time, or fails. PermissionError: it refuses the key.
            ValueError: it refuses the request, or the history isn't in that form.
            RuntimeError: the model answered nothing.
        """
        if not isinstance(question, str):
            given = language, system_prompt, history, max_new_tokens
            return [self(text, *given, **options) for text in question]
        prompt = default_system_prompt(language) if system_prompt is None else system_prompt
        messages = [{"role": "system", "content": prompt}, *check_history(history or [])]
        messages.append({"role": "user", "content": question})
        writer, text, reason = Writer(language, on_text), "", None
        with self._explained():
            self.model = self.model or self._client.models.list().data[0].id
            chunks = self._client.chat.completions.create(
                model=self.model, messages=messages, max_tokens=max_new_tokens, stream=True, **options
            )
            with chunks:
                for chunk in chunks:
                    raise_if_cancelled()
                    if chunk.choices:
                        text += chunk.choices[0].delta.content or ""
                        reason = chunk.choices[0].finish_reason or reason
                        writer.write(tidy(text))
        answer = tidy(text)
        if not answer:
            raise RuntimeError(f"the LLM at {self.url} answered nothing to {question!r}. Try another model or prompt.")
        return writer.finish(cut_at_sentence(answer, language) if reason == "length" else answer)

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
