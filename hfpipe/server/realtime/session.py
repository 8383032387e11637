"""A Realtime session: what its client sends, and what it is sent."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pydantic_core
from openai.types.realtime import (
    ConversationItemAdded,
    ConversationItemDeletedEvent,
    ConversationItemDone,
    ConversationItemInputAudioTranscriptionCompletedEvent,
    ConversationItemInputAudioTranscriptionDeltaEvent,
    ConversationItemInputAudioTranscriptionFailedEvent,
    ConversationItemTruncatedEvent,
    InputAudioBufferClearedEvent,
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    InputAudioBufferSpeechStoppedEvent,
    InputAudioBufferTimeoutTriggered,
    RealtimeErrorEvent,
    SessionCreatedEvent,
    SessionUpdatedEvent,
)
from openai.types.realtime.realtime_client_event import RealtimeClientEvent
from openai.types.realtime.realtime_server_event import ConversationItemRetrieved
from pydantic import BaseModel, ValidationError

from ...pipeline.engine_clock import Clock
from ...pipeline.engine_request import Request
from ..errors import ApiError, as_api_error
from ..service import Service
from .backchannels import is_backchannel
from .config import SessionConfig, check_limits, invalid, refuse_unsupported
from .items import Conversation, Item, Part, new_item_id, read_item
from .listening import InputBuffer, SpeechBegan, SpeechEnded, SpeechPaused, SpeechResumed, new_detector
from .response import Response


def _type_of(event: type[BaseModel]) -> str:
    return get_args(event.model_fields["type"].annotation)[0]


SILENCE = {"es": "(No he dicho nada.)", "en": "(I have said nothing.)"}  # what the LLM is told of it
CLIENT_EVENTS = {_type_of(event): event for event in get_args(get_args(RealtimeClientEvent)[0])}


class Session:
    """One conversation over a WebSocket. All of it runs in the event loop; what computes doesn't.

    Args:
        service: the models, which all sessions share.
        send_text: sends a message to the client.
        config: how the session begins.
    """

    def __init__(self, service: Service, send_text: Callable[[str], Awaitable[None]], config: SessionConfig):
        self.service, self.config = service, config
        self.id = config.data["id"]
        self.conversation = Conversation()
        self.response: Response | None = None  # the last one, which may still be played
        self._task: asyncio.Task | None = None  # that makes it
        self._tasks: set[asyncio.Task] = set()  # all: answers, and what is heard apart from them
        self._silence: asyncio.Task | None = None  # that waits until nobody has spoken for long
        self._send_text, self._sending = send_text, asyncio.Lock()
        self._draft: Response | None = None  # of an answer to what may be a whole turn, begun in the pause
        self._turn_id = ""  # of the item that what is said now will be
        self._buffer = InputBuffer(config, lambda rate, given: new_detector(rate, given, service.turn_detector))

    @property
    def is_answering(self) -> bool:
        """Whether an answer is being made, and not only drafted."""
        return self._draft is None and self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Greet the client."""
        await self.send(SessionCreatedEvent, session=self.config.data)

    async def handle(self, message: str) -> None:
        """Do what a client's message asks for; an error is told to the client, and the session goes on."""
        event_id = None
        try:
            data = _read(message)
            event_id = data.get("event_id") if isinstance(data.get("event_id"), str) else None
            event = _as_event(data)
            if data["type"] != "input_audio_buffer.append":
                self._drop_draft()
            await getattr(self, f"_on_{data['type'].replace('.', '_')}")(event, data)
        except Exception as error:
            await self.send_error(error, event_id)

    async def close(self) -> None:
        """Cancel all that the session computes."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for the answer that is being made."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def send(self, kind: type[BaseModel], **fields: Any) -> None:
        """Send an event of one of OpenAI's types."""
        event = kind(type=_type_of(kind), event_id=f"event_{uuid.uuid4().hex[:24]}", **fields)
        async with self._sending:
            await self._send_text(event.model_dump_json(exclude_unset=True))

    async def send_error(self, error: BaseException, event_id: str | None = None) -> None:
        """Tell the client what is wrong, and with which of its events."""
        told = as_api_error(error).body["error"]
        await self.send(RealtimeErrorEvent, error={**told, "event_id": event_id})

    async def send_transcript(self, item: Item, part: Part) -> None:
        """Tell the client what was heard, if it wants to know."""
        if self.config.transcription is None:
            return
        where = {"item_id": item.id, "content_index": item.parts.index(part)}
        if part.text:
            await self.send(ConversationItemInputAudioTranscriptionDeltaEvent, **where, delta=part.text)
        usage = {"type": "duration", "seconds": part.seconds}
        heard = {"transcript": part.text or "", "usage": usage}
        await self.send(ConversationItemInputAudioTranscriptionCompletedEvent, **where, **heard)

    async def _on_session_update(self, event, data: dict) -> None:
        config = self.config.updated(data["session"])
        if config.answers:
            self._request(config, config.data)  # refuses a voice or a language that isn't there
        self._buffer.configure(config)
        self.config = config
        self._end_silence()
        await self.send(SessionUpdatedEvent, session=config.data)

    async def _on_input_audio_buffer_append(self, event, data: dict) -> None:
        is_heard = self.is_answering or (self.response is not None and time.monotonic() < self.response.playing_until)
        loop = asyncio.get_running_loop()
        for found in await loop.run_in_executor(self.service.listening, self._buffer.append, event.audio, is_heard):
            if isinstance(found, SpeechPaused):
                self._begin_draft(found)
            elif isinstance(found, SpeechResumed):
                self._drop_draft()
            elif isinstance(found, SpeechBegan):
                self._turn_id = await self._begin_turn(found)
            elif found.is_brief:
                self._start(self._weigh(found))
            else:
                await self._end_turn(found, self._turn_id)

    async def _on_input_audio_buffer_commit(self, event, data: dict) -> None:
        turn = self._buffer.commit()
        item = Item("user", [Part("input_audio", sound=turn.sound, rate=turn.rate)], self._turn_id or new_item_id())
        self._turn_id = ""
        await self._add_spoken(item)
        self._hear_apart(item)

    async def _on_input_audio_buffer_clear(self, event, data: dict) -> None:
        self._buffer.clear()
        self._turn_id = ""
        await self.send(InputAudioBufferClearedEvent)

    async def _on_conversation_item_create(self, event, data: dict) -> None:
        item = read_item(data["item"], self.config.input_format, self.service.settings.max_seconds)
        await self._send_item(item, self.conversation.insert(item, event.previous_item_id))

    async def _on_conversation_item_retrieve(self, event, data: dict) -> None:
        await self.send(ConversationItemRetrieved, item=self.conversation.find(event.item_id).dump())

    async def _on_conversation_item_delete(self, event, data: dict) -> None:
        self.conversation.delete(event.item_id)
        await self.send(ConversationItemDeletedEvent, item_id=event.item_id)

    async def _on_conversation_item_truncate(self, event, data: dict) -> None:
        where = {"item_id": event.item_id, "content_index": event.content_index, "audio_end_ms": event.audio_end_ms}
        self.conversation.truncate(**where)
        await self.send(ConversationItemTruncatedEvent, **where)

    async def _on_response_create(self, event, data: dict) -> None:
        given = data.get("response") or {}
        check_limits(given, "response")
        refuse_unsupported(given, "response")
        is_in_conversation = given.get("conversation") != "none"
        if is_in_conversation and self.is_answering:
            message = "an answer is being made; wait for its response.done, or send response.cancel."
            raise ApiError(400, message, "conversation_already_has_active_response")
        items = list(self.conversation.items)
        if given.get("input") is not None:
            items = [self._referred(each) for each in given["input"]]
        response = self._new_response(items, given, is_in_conversation)
        await response.create()
        if is_in_conversation:
            self._begin_response(response)
        else:
            self._start(response.run())

    async def _on_response_cancel(self, event, data: dict) -> None:
        is_this = event.response_id is None or (self.response is not None and event.response_id == self.response.id)
        if not self.is_answering or not is_this:
            message = "no such answer is being made; there is nothing to cancel."
            raise ApiError(400, message, "response_cancel_not_active")
        await self._interrupt("client_cancelled")

    async def _on_output_audio_buffer_clear(self, event, data: dict) -> None:
        message = "over a WebSocket the client plays the sound; stop it there, and send conversation.item.truncate."
        raise ApiError(400, message, "not_supported", "type")

    def _referred(self, data: dict) -> Item:
        """Return an item that a response is to answer: one of the conversation's, or a new one."""
        if data.get("type") == "item_reference":
            return self.conversation.find(str(data.get("id")))
        return read_item(data, self.config.input_format, self.service.settings.max_seconds)

    def _new_response(self, items: list[Item], given: dict, is_in_conversation: bool = True) -> Response:
        session = self.config.data
        given_sound = (given.get("audio") or {}).get("output") or {}
        sound = {
            **session["audio"]["output"],
            **{name: each for name, each in given_sound.items() if each is not None},
        }
        sound["voice"] = sound["voice"] if isinstance(sound["voice"], str) else sound["voice"]["id"]
        names = ("output_modalities", "instructions", "max_output_tokens")
        options = {name: session[name] if given.get(name) is None else given[name] for name in names}
        options |= {"audio": {"output": sound}, "metadata": given.get("metadata")}
        return Response(self, items, self._request(self.config, options), options, is_in_conversation)

    def _request(self, config: SessionConfig, options: dict) -> Request:
        """Return what the engine is asked for; raise an error if it can't be had."""
        if options["output_modalities"] not in (["audio"], ["text"]):
            message = (
                f"output_modalities is {options['output_modalities']}; valid is ['audio'], with words, or ['text']."
            )
            raise ApiError(400, message, "invalid_value", "output_modalities")
        sound = options["audio"]["output"]
        voice = sound["voice"] if isinstance(sound["voice"], str) else sound["voice"]["id"]
        limit = options["max_output_tokens"]
        own = {} if limit == "inf" else {"max_new_tokens": limit}
        if sound.get("speed", 1.0) != 1.0:
            own["tts_kwargs"] = {**self.service.pipe.defaults.tts_kwargs, "speed": sound["speed"]}
        return self.service.request(voice, config.language, **own)

    async def _begin_turn(self, began: SpeechBegan) -> str:
        """Tell the client that somebody speaks, and end the answer; return the id of the item that this will be."""
        self._end_silence()
        detection, item_id = self.config.turn_detection or {}, new_item_id()
        started = {"audio_start_ms": round(1000 * began.at), "item_id": item_id}
        await self.send(InputAudioBufferSpeechStartedEvent, **started)
        if detection.get("interrupt_response") is not False:
            await self._interrupt("turn_detected")
        return item_id

    async def _end_turn(self, turn: SpeechEnded, item_id: str, heard: Part | None = None) -> None:
        """Make a turn an item, and answer it; `heard` is what was understood, where that is known."""
        detection = self.config.turn_detection or {}
        stopped = {"audio_end_ms": round(1000 * turn.end), "item_id": item_id}
        await self.send(InputAudioBufferSpeechStoppedEvent, **stopped)
        if self._draft is not None:
            draft, self._draft = self._draft, None
            draft.items[-1].id = item_id
            await self._add_spoken(draft.items[-1])
            draft.is_wanted.set()
            return
        item = Item("user", [heard or Part("input_audio", sound=turn.sound, rate=turn.rate)], item_id)
        await self._add_spoken(item)
        if heard is not None:
            await self.send_transcript(item, heard)
        if self.config.answers and detection.get("create_response") is not False and not self.is_answering:
            self._begin_response(self._new_response(list(self.conversation.items), {}))
        elif heard is None:
            self._hear_apart(item)

    def _begin_draft(self, paused: SpeechPaused) -> None:
        """Begin an answer in case the turn has ended, where nobody else waits; nothing of it is sent until it has."""
        work, detection = self.service.work, self.config.turn_detection or {}
        is_idle = not work.running and not work.waiting
        if is_idle and self.config.answers and detection.get("create_response") is not False:
            item = Item("user", [Part("input_audio", sound=paused.sound, rate=paused.rate)])
            self._draft = self._new_response([*self.conversation.items, item], {})
            self._draft.is_wanted.clear()
            self._begin_response(self._draft)

    def _drop_draft(self) -> None:
        if self._draft is not None:
            assert self._task is not None
            self._task.cancel()
            self._draft = self._task = None

    def _begin_response(self, response: Response) -> None:
        self._end_silence()
        self.response = response
        self._task = self._start(self._respond(response))

    async def _respond(self, response: Response) -> None:
        await response.run()
        if timeout := (self.config.turn_detection or {}).get("idle_timeout_ms"):
            self._silence = self._start(self._answer_silence(timeout / 1000))

    async def _answer_silence(self, seconds: float) -> None:
        """Answer that nobody says anything, so long after what was answered last was played."""
        assert self.response is not None
        await asyncio.sleep(max(0.0, self.response.playing_until - time.monotonic()) + seconds)
        self._silence, item, end = None, Item("user", [Part("input_audio", "")]), self._buffer.seconds
        stretch = {"audio_start_ms": round(1000 * max(0.0, end - seconds)), "audio_end_ms": round(1000 * end)}
        await self.send(InputAudioBufferTimeoutTriggered, **stretch, item_id=item.id)
        await self._add_spoken(item)
        if self.config.answers:
            silence = SILENCE.get((self.config.language or "es")[:2], SILENCE["en"])
            told = Item("user", [Part("input_text", silence)])
            self._begin_response(self._new_response([*self.conversation.items, told], {}))

    def _end_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    async def _weigh(self, turn: SpeechEnded) -> None:
        """Hear a brief word that was said into an answer: it is a turn unless it is an "ajá"."""
        part = Part("input_audio", sound=turn.sound, rate=turn.rate)
        try:
            await self._compute_hearing(part)
            if part.text and not is_backchannel(part.text):
                item_id = await self._begin_turn(SpeechBegan(turn.start))
                await self._end_turn(turn, item_id, part)
        except Exception as error:
            await self.send_error(error)

    async def _interrupt(self, reason: str) -> None:
        """End the answer that is being made, or keep of one that is played what was heard of it."""
        if self.response is None:
            return
        if self.is_answering:
            assert self._task is not None
            self.response.cancel(self._task, reason)
            await asyncio.wait((self._task,))
        elif time.monotonic() < self.response.playing_until:
            self.response.interrupt()
        self.response.playing_until = 0.0

    def _hear_apart(self, item: Item) -> None:
        """Transcribe what was said apart from any answer, where the client wants to know it."""
        if self.config.transcription is not None:
            item.parts[0].hearing = self._start(self._hear(item, item.parts[0]))

    async def _hear(self, item: Item, part: Part) -> None:
        try:
            await self._compute_hearing(part)
            await self.send_transcript(item, part)
        except Exception as error:
            told = as_api_error(error).body["error"]
            where = {"item_id": item.id, "content_index": item.parts.index(part)}
            await self.send(ConversationItemInputAudioTranscriptionFailedEvent, **where, error=told)

    async def _compute_hearing(self, part: Part) -> None:
        request = self.service.request(None, self.config.language)
        await self.service.work.run(self.id, lambda: part.hear(self.service.engine, request, Clock()))

    async def _add_spoken(self, item: Item) -> None:
        """Make what was said part of the conversation."""
        previous = self.conversation.insert(item)
        await self.send(InputAudioBufferCommittedEvent, item_id=item.id, previous_item_id=previous)
        await self._send_item(item, previous)

    async def _send_item(self, item: Item, previous: str | None) -> None:
        await self.send(ConversationItemAdded, item=item.dump(), previous_item_id=previous)
        await self.send(ConversationItemDone, item=item.dump(), previous_item_id=previous)

    def _start(self, work) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _read(message: str) -> dict:
    """Return the object that a client's message holds; raise `ApiError` if there is none."""
    try:
        data = pydantic_core.from_json(message)
    except ValueError as error:
        raise ApiError(400, f"the message isn't valid JSON ({error}).", "invalid_json") from error
    if not isinstance(data, dict):
        raise ApiError(400, "the message is no JSON object; send an event.", "invalid_value")
    return data


def _as_event(data: dict) -> BaseModel:
    """Return a client's event; raise `ApiError` if it is none of OpenAI's."""
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in CLIENT_EVENTS:
        message = f"the event's type is {str(kind)[:100]!r}; valid is {', '.join(CLIENT_EVENTS)}."
        raise ApiError(400, message, "invalid_value", "type")
    if kind == "session.update" and isinstance(data.get("session"), dict):
        return CLIENT_EVENTS[kind].model_construct(**data)  # which is checked once it is merged with what is
    try:
        return CLIENT_EVENTS[kind].model_validate(data)
    except ValidationError as error:
        raise invalid(error, "event") from error
