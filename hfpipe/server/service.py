"""What all requests share: the models, the queue, the metrics and the voices."""

import functools
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from starlette.requests import HTTPConnection

from ..pipeline.cpu_precision import precision_in
from ..pipeline.cpu_threads import limit_to_one_core
from ..pipeline.engine_clock import Clock
from ..pipeline.engine_events import Transcript
from ..pipeline.engine_protocols import NamesVoices
from ..pipeline.engine_request import Request as Ask
from ..pipeline.logs import logger
from ..pipeline.voice_qa import VoiceQAPipeline
from .errors import ApiError
from .llm_batcher import is_batched
from .metrics import Metrics
from .settings import Settings
from .stages import SharedEngine, share
from .voices import Voices
from .work import WorkQueue

ANSWER_SECONDS = 3600  # for which a spoken answer can be referred to by its id
MAX_ANSWERS = 1000
TurnDetector = Callable[[np.ndarray], float]  # the probability that a turn, (samples,) at 16 kHz, is complete
OPENAI_VOICES = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())


class Service:
    """One set of models for all clients; their sessions share these and no state.

    Args:
        pipe: the pipeline.
        settings: the server's.
        name: of the model, for `/v1/models`.
        turn_detector: tells whether a turn is complete by its sound; None goes by the pause.

    Attributes:
        listening: the thread in which all sessions listen for turns.
        sessions: the Realtime sessions, each with its WebSocket.
    """

    def __init__(
        self, pipe: VoiceQAPipeline, settings: Settings, name: str, turn_detector: TurnDetector | None = None
    ):
        self.pipe, self.settings, self.name, self.turn_detector = pipe, settings, name, turn_detector
        self.listening = ThreadPoolExecutor(1, "hfpipe-listen", initializer=limit_to_one_core)
        self.sessions: dict[Any, Any] = {}
        self.created = int(time.time())
        self._share = functools.lru_cache(maxsize=1)(share)
        self.work = WorkQueue(settings.concurrency, settings.queue_size, settings.stall_seconds)
        self.metrics = Metrics(self.work, self.sessions)
        self.voices = Voices(pipe.tts, settings.folder)
        self._answers: OrderedDict[str, tuple[int, str]] = OrderedDict()

    @property
    def engine(self) -> SharedEngine:
        """The steps of an answer by the pipeline's parts as they are now, shared by all requests."""
        return self._share(self.pipe.engine)

    @property
    def about(self) -> dict[str, Any]:
        """In which precision the models compute, and whether several answers share the language model's passes."""
        parts = {"asr": self.pipe.model, "llm": getattr(self.pipe.llm, "model", None)}
        precision = {name: precision_in(part) for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        return {"precision": precision, "batches_answers": is_batched(self.engine.llm)}

    def request(self, voice: str | None = None, language: str | None = None, **options: Any) -> Ask:
        """Return a request in a voice by its name; raise ValueError for options that aren't valid.

        Args:
            voice: of the model or saved; a name of OpenAI's own that the model doesn't have is the model's own voice.
            language: None is the server's.
            options: see `Request`.
        """
        speakers = self.pipe.tts.speakers if isinstance(self.pipe.tts, NamesVoices) else ()
        if voice in speakers:
            options["speaker"] = voice
        elif voice not in (None, "", "default") and voice not in OPENAI_VOICES:
            valid = ", ".join(("default", *speakers))
            raise ApiError(400, f"there is no voice {voice!r}; valid is {valid}.", "voice_not_found", "voice")
        request = self.pipe.defaults.updated(language=language or self.settings.language, **options)
        self.engine.check(request)
        return request

    def without_speed(self) -> ApiError:
        """Return the error for a speed that the voice part doesn't take."""
        message = f"the voice part ({type(self.pipe.tts).__name__}) can't change its speed; leave speed at 1."
        return ApiError(400, message, "speed_not_supported", "speed")

    def remember(self, answer: str) -> tuple[str, int]:
        """Keep the words of a spoken answer for a while; return its id, and when it is forgotten (Unix seconds)."""
        key, expires = f"audio_{uuid.uuid4().hex}", int(time.time()) + ANSWER_SECONDS
        self._answers[key] = (expires, answer)
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)
        return key, expires

    def correct(self, key: str, answer: str) -> int:
        """Set the words of an answer that was remembered as it began; return when it is forgotten (Unix seconds)."""
        expires, _ = self._answers[key]
        self._answers[key] = (expires, answer)
        return expires

    def recall(self, key: str) -> str:
        """Return the words of a spoken answer; raise `ApiError` if they aren't kept."""
        expires, answer = self._answers.get(key, (0, ""))
        if expires < time.time():
            message = f"there is no spoken answer {key!r}, or no more; give its words as the turn's content."
            raise ApiError(400, message, "audio_not_found", "messages")
        return answer

    def warm_up(self) -> None:
        """Take each step once, so that what fails is named before the first request.

        Raises:
            RuntimeError: names the step.
        """
        request, stage = self.pipe.defaults.updated(language=self.settings.language), "llm"
        language = request.language or "es"
        try:
            answer = self.engine.think([Transcript("¿Hola?", language)], request, Clock())[0]
            stage = "tts"
            for _ in self.engine.speak([(answer[:40], language)], request):
                pass
        except Exception as error:
            raise RuntimeError(f"the stage {stage!r} doesn't work: {error}") from error
        logger.info("warmed up: %s", self.about)


def client_of(request: HTTPConnection) -> str:
    """Return by what name the queue knows a client: its address."""
    return request.client.host if request.client else ""


def service_of(request: HTTPConnection) -> Service:
    """Return the service of the app that a request came to."""
    return request.app.state.service
