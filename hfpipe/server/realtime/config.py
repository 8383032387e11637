"""How a Realtime session listens and answers: OpenAI's session object, which its client changes piece by piece."""

import math
import uuid
from dataclasses import dataclass
from typing import Any

from openai.types.realtime import RealtimeSessionCreateRequest, RealtimeTranscriptionSessionCreateRequest
from pydantic import ValidationError

from ..errors import ApiError
from .codec import RATES

TURN_DETECTION: dict[str, dict[str, Any]] = {  # OpenAI's defaults, by type
    "server_vad": {
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {"eagerness": "auto", "create_response": True, "interrupt_response": True},
}
NULLABLE = frozenset(("turn_detection", "transcription", "noise_reduction", "tracing", "prompt", "idle_timeout_ms"))
VALID_TYPES = {"realtime": RealtimeSessionCreateRequest, "transcription": RealtimeTranscriptionSessionCreateRequest}
LIMITS = {  # of numbers, which the types don't hold
    "threshold": (0.0, 1.0),
    "prefix_padding_ms": (0, 5_000),
    "silence_duration_ms": (100, 10_000),
    "idle_timeout_ms": (1_000, 600_000),
    "speed": (0.25, 1.5),
    "max_output_tokens": (1, 4096),
}


@dataclass(frozen=True)
class SessionConfig:
    """The options of a session, as they are shown to its client.

    Args:
        data: OpenAI's session object, whole.
    """

    data: dict[str, Any]

    @classmethod
    def default(cls, model: str, language: str | None, kind: str = "realtime") -> "SessionConfig":
        """Return what a session begins with.

        Args:
            model: its name.
            language: of what is said; None detects it.
            kind: "realtime", or "transcription", which hears and doesn't answer.
        """
        pcm = {"type": "audio/pcm", "rate": RATES["audio/pcm"]}
        transcription = {"model": model} if language is None else {"model": model, "language": language}
        heard: dict[str, Any] = {"format": pcm, "transcription": transcription, "noise_reduction": None}
        heard["turn_detection"] = {"type": "server_vad", **TURN_DETECTION["server_vad"]}
        data: dict[str, Any] = {"type": kind, "object": f"{kind}.session", "id": f"sess_{uuid.uuid4().hex}"}
        data["audio"] = {"input": heard}
        if kind == "realtime":
            data["audio"]["output"] = {"format": pcm, "voice": "default", "speed": 1.0}
            data |= {"model": model, "output_modalities": ["audio"], "instructions": "", "max_output_tokens": "inf"}
            data |= {"tools": [], "tool_choice": "auto", "truncation": "auto", "tracing": None}
        return cls(data)

    def updated(self, changes: dict[str, Any]) -> "SessionConfig":
        """Return the options with some changed: what isn't named stays, at any depth.

        Raises:
            ApiError: an option isn't valid, or is one that this server can't honor.
        """
        data = _merged(self.data, changes)
        if data["type"] != self.data["type"]:
            message = f"session.type is {data['type']!r}; this session's is {self.data['type']!r} and stays so."
            raise ApiError(400, message, "invalid_value", "session.type")
        try:
            VALID_TYPES[data["type"]].model_validate(data)
        except ValidationError as error:
            raise invalid(error, "session") from error
        check_limits(data, "session")
        refuse_unsupported(data, "session")
        data["audio"]["input"]["noise_reduction"] = None  # clients ask for it by habit; this shows that there is none
        return SessionConfig(data)

    @property
    def answers(self) -> bool:
        """Whether the session answers, and doesn't only transcribe."""
        return self.data["type"] == "realtime"

    @property
    def input_format(self) -> str:
        """Format of what the client says: "audio/pcm" at 24 kHz, or "audio/pcmu" or "audio/pcma" at 8 kHz."""
        return self.data["audio"]["input"]["format"].get("type") or "audio/pcm"

    @property
    def transcription(self) -> dict | None:
        """How what is said is transcribed for the client; None is not at all."""
        return self.data["audio"]["input"]["transcription"]

    @property
    def language(self) -> str | None:
        """The language of what is said, with or without a region; None if the session names none."""
        return (self.transcription or {}).get("language")

    @property
    def turn_detection(self) -> dict | None:
        """How the server finds turns, complete; None leaves it to the client."""
        return self.data["audio"]["input"]["turn_detection"]


def check_limits(data: dict[str, Any], path: str) -> None:
    """Raise an `ApiError` for a number out of range, at any depth."""
    for name, value in data.items():
        if isinstance(value, dict):
            check_limits(value, f"{path}.{name}")
        elif name in LIMITS and isinstance(value, int | float):
            low, high = LIMITS[name]
            if not low <= value <= high or math.isnan(value):
                message = f"{path}.{name} is {value}; valid is {low} to {high}."
                raise ApiError(400, message, "invalid_value", f"{path}.{name}")


def refuse_unsupported(options: dict[str, Any], path: str) -> None:
    """Raise an `ApiError` for options of a session or a response that would change its answers, and can't here."""
    if options.get("tools"):
        raise ApiError(400, "this server calls no tools; leave them out.", "not_supported", f"{path}.tools")
    if options.get("prompt"):
        message = "this server keeps no prompts; give their text as instructions."
        raise ApiError(400, message, "not_supported", f"{path}.prompt")


def invalid(error: ValidationError, root: str) -> ApiError:
    """Return what a client is told of an object that isn't OpenAI's."""
    first = error.errors()[0]
    path = ".".join((root, *(str(part) for part in first["loc"] if str(part).islower())))
    return ApiError(400, f"{path}: {first['msg']}.", "invalid_value", path)


def _merged(old: dict, new: dict) -> dict:
    """Return `old` with the values of `new`, where both are objects merged again; one of another type replaces it."""
    result = dict(old)
    for name, value in new.items():
        before = result.get(name)
        if value is None and name not in NULLABLE:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            is_same_type = value.get("type", before.get("type")) == before.get("type")
            value = _merged(before, value) if is_same_type else value
        if name == "turn_detection" and isinstance(value, dict):
            value = {**TURN_DETECTION.get(str(value.get("type")), {}), **value}
        result[name] = value
    return result
