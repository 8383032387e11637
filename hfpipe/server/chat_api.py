"""OpenAI's chat completions: text or audio in, text or text and audio out."""

import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionAudio, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaAudio
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..pipeline.audio import SAMPLING_RATE
from ..pipeline.engine_clock import Clock
from ..pipeline.engine_events import Audio, Event, Text, Transcript
from ..pipeline.engine_request import Request as Ask
from ..pipeline.llm_answer import split_history, text_of
from ..pipeline.llm_local import LLM
from ..pipeline.llm_remote import RemoteLLM
from .audio_api import VoiceId
from .errors import ApiError
from .service import Service, client_of, service_of
from .sound import Encoder, check_format, decode_recording, encode, from_base64, to_base64
from .sse import END, SSE, event, streamed
from .turns import Turn, count_tokens

router = APIRouter(prefix="/v1/chat", tags=["chat"])
MAX_MESSAGES = 1000
MAX_CHARACTERS = 50_000  # of all messages; their keys and values take memory for each answer that is being made


class AudioParam(BaseModel):
    """How the answer is to sound."""

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"] = "wav"
    voice: str | VoiceId = "default"


class StreamOptions(BaseModel):
    """What a stream holds besides."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """A conversation that ends with a question. What isn't listed here is accepted and left unused."""

    model_config = ConfigDict(extra="allow")

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_MESSAGES)
    model: str = ""
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioParam | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=100_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: Literal[1] | None = None
    language: str | None = Field(None, description="An extension: code of the language, 'es' or 'es-MX'.")

    @field_validator("messages")
    @classmethod
    def _check_text(cls, messages: list[dict]) -> list[dict]:
        json.dumps(messages, ensure_ascii=False).encode()  # JSON may hold half a surrogate pair, which is no text
        written = sum(len(text_of(message.get("content")) or "") for message in messages)
        if written > MAX_CHARACTERS:
            raise ValueError(f"the messages have {written} characters; valid is up to {MAX_CHARACTERS}")
        return messages


# Left unused, these would change the answer without a word.
REFUSED = {
    "tools": "this server calls no tools",
    "functions": "this server calls no functions",
    "stop": "this server has no stop sequences",
    "logprobs": "this server gives no log probabilities",
    "logit_bias": "this server takes no biases",
    "web_search_options": "this server doesn't search the web",
}


@router.post("/completions", response_model=None)
async def create_chat_completion(request: Request, body: ChatBody) -> ChatCompletion | Response:
    """Answer the last message; `modalities` ["text", "audio"] speaks the answer as well."""
    service, extra = service_of(request), body.model_extra or {}
    for name, why in REFUSED.items():
        if extra.get(name):
            raise ApiError(400, f"{why}; leave {name} out.", "not_supported", name)
    wanted = extra.get("response_format")
    if wanted is not None and (not isinstance(wanted, dict) or wanted.get("type") != "text"):
        raise ApiError(400, "valid is response_format {'type': 'text'}.", "not_supported", "response_format")
    speaks = "audio" in (body.modalities or ())
    if speaks and body.audio is None:
        raise ApiError(400, "modalities ['text', 'audio'] takes audio: {format, voice}.", "missing_audio", "audio")
    sound = body.audio or AudioParam()
    voice = sound.voice if isinstance(sound.voice, str) else sound.voice.id
    messages = [_recalled(service, message) for message in body.messages]
    options = {"max_new_tokens": body.max_completion_tokens or body.max_tokens}
    asked = service.request(
        voice if speaks else None, body.language, **options, generate_kwargs=_sampling(service, body)
    )
    sound_format = "pcm" if sound.format == "pcm16" else sound.format
    check_format(sound_format)

    def produce(emit) -> None:
        clock = Clock()
        question, history, heard = _read_messages(service, messages, asked, clock)
        turn = Turn(service.engine, asked.updated(history=history), service.metrics, speaks)
        rate, data = service.pipe.tts.sampling_rate, b""
        if speaks and body.stream:
            with Encoder(sound_format, rate) as encoder:
                turn.answer_to(question, clock, lambda item: emit(_encoded(item, encoder)), heard)
                emit(encoder.finish())
        else:
            turn.answer_to(question, clock, emit, heard)
            data = encode(turn.audio, rate, sound_format) if speaks else b""
        asking = " ".join([*(text_of(each["content"]) or "" for each in history), question.text])
        tokens = count_tokens(service.engine, asking), count_tokens(service.engine, turn.answer)
        usage = CompletionUsage(prompt_tokens=tokens[0], completion_tokens=tokens[1], total_tokens=sum(tokens))
        emit((turn.answer, "length" if turn.is_cut else "stop", data, usage))

    made = service.work.stream(client_of(request), produce)
    if body.stream:
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        return await streamed(_chunks(service, made, speaks, wants_usage), SSE)
    async with aclosing(made):
        async for item in made:
            last = item
    answer, finish, data, usage = last
    message = ChatCompletionMessage(role="assistant", content=answer)
    if speaks:
        key, expires = service.remember(answer)
        spoken = ChatCompletionAudio(id=key, data=to_base64(data), expires_at=expires, transcript=answer)
        message = ChatCompletionMessage(role="assistant", content=None, audio=spoken)
    choice = Choice(index=0, finish_reason=finish, message=message)
    about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.name}
    return ChatCompletion(object="chat.completion", choices=[choice], usage=usage, **about)


def _encoded(item: Event, encoder: Encoder) -> Event | bytes:
    return encoder.write(item.audio) if isinstance(item, Audio) else item


async def _chunks(service: Service, made, speaks: bool, wants_usage: bool) -> AsyncGenerator[bytes, None]:
    about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.name}

    def chunk(delta: ChoiceDelta | None, finish: Literal["stop", "length"] | None = None, usage=None) -> bytes:
        choices = [] if delta is None else [ChunkChoice(index=0, delta=delta, finish_reason=finish)]
        options = {"usage": usage} if usage else {}
        return event(ChatCompletionChunk(object="chat.completion.chunk", choices=choices, **about, **options))

    def sound(**given) -> bytes:
        return chunk(ChoiceDelta.model_construct(audio=ChoiceDeltaAudio(**given)))

    key, is_first = "", True
    async with aclosing(made):
        async for item in made:
            if is_first:
                is_first = False
                yield chunk(ChoiceDelta(role="assistant", content=None if speaks else ""))
                if speaks:
                    key, _ = service.remember("")
                    yield sound(id=key)
            if isinstance(item, Text):
                yield sound(transcript=item.text) if speaks else chunk(ChoiceDelta(content=item.text))
            elif isinstance(item, bytes):
                if item:
                    yield sound(data=to_base64(item))
            else:
                answer, finish, _, usage = item
    if speaks:
        yield sound(expires_at=service.correct(key, answer))
    yield chunk(ChoiceDelta(), finish)
    if wants_usage:
        yield chunk(None, usage=usage)
    yield END


def _recalled(service: Service, message: dict) -> dict:
    """Return a message in which an earlier spoken answer, given by its id, stands in words."""
    audio = message.get("audio")
    if message.get("role") != "assistant" or not isinstance(audio, dict) or message.get("content"):
        return message
    return {"role": "assistant", "content": service.recall(str(audio.get("id")))}


def _read_messages(
    service: Service, messages: list[dict], asked: Ask, clock: Clock
) -> tuple[Transcript, list[dict], float]:
    """Return the question, the history before it, and the seconds of the recordings, which are transcribed.

    Raises:
        ApiError: the last message isn't the user's. ValueError: a message isn't in OpenAI's form.
    """
    *earlier, last = messages
    if last.get("role") != "user":
        message = f"the last message is of role {last.get('role')!r}; valid is 'user', with the question."
        raise ApiError(400, message, "invalid_value", "messages")
    seconds, language = 0.0, asked.language
    history = []
    for turn in earlier:
        text, lasts, _ = _read_content(service, turn, asked, clock, seconds)
        seconds += lasts
        history.append({**turn, "content": text})
    split_history(history, None)  # refuses what isn't a history, before the recording is heard
    text, lasts, heard = _read_content(service, last, asked, clock, seconds)
    question = text_of(text)
    if question is None or not question.strip():
        message = "the last message holds no text and no input_audio; ask something."
        raise ApiError(400, message, "invalid_value", "messages")
    return Transcript(question, heard or language or "es"), history, seconds + lasts


def _read_content(service: Service, message: dict, asked: Ask, clock: Clock, before: float) -> tuple:
    """Return a message's content with its recordings in words, their seconds, and the language that was heard."""
    content = message.get("content")
    if message.get("role") != "user" or not isinstance(content, list):
        return content, 0.0, None
    parts, seconds, language = [], 0.0, None
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "input_audio":
            parts.append(part)
            continue
        given = part.get("input_audio")
        if not isinstance(given, dict) or not isinstance(given.get("data"), str):
            raise ApiError(400, "input_audio takes {data: base64, format}.", "invalid_value", "messages")
        with clock.stage("asr"):
            recording = decode_recording(from_base64(given["data"], "messages"), service.settings)
        seconds += len(recording.samples) / SAMPLING_RATE
        if before + seconds > service.settings.max_seconds:
            limit = service.settings.max_seconds
            raise ApiError(413, f"the recordings last more than {limit:.0f} s together; send fewer.", "too_long")
        [heard] = service.engine.hear([recording], asked, clock)
        language = heard.language
        parts.append({"type": "text", "text": heard.text})
    return parts, seconds, language


def _sampling(service: Service, body: ChatBody) -> dict[str, Any]:
    """Return temperature and top_p as the language model takes them; one of a user's own takes neither."""
    llm = service.pipe.llm
    given = {"temperature": body.temperature, "top_p": body.top_p}
    given = {name: value for name, value in given.items() if value is not None}
    # By name: the code that a repo brings along has classes of its own.
    if type(llm).__name__ == RemoteLLM.__name__:
        return given
    if type(llm).__name__ != LLM.__name__ or not given.get("temperature"):
        return {}
    return {"do_sample": True, **given}
