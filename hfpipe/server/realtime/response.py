"""One answer of a Realtime session, from what was asked to `response.done`."""

import asyncio
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openai.types.realtime import (
    ConversationItemAdded,
    ConversationItemDone,
    RealtimeResponse,
    ResponseAudioDeltaEvent,
    ResponseAudioDoneEvent,
    ResponseAudioTranscriptDeltaEvent,
    ResponseAudioTranscriptDoneEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseDoneEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

from ...pipeline.engine_clock import Clock
from ...pipeline.engine_events import Audio, Event, Text, Transcript
from ...pipeline.engine_request import Request
from ..errors import as_api_error
from ..sound import to_base64
from ..turns import Turn, count_tokens
from .codec import RATES, WIDTHS, Encoder
from .items import Item, Part

if TYPE_CHECKING:
    from .session import Session

DELTA_SECONDS = 0.5  # of sound in one event: clients limit the size of a message


@dataclass(frozen=True)
class Sound:
    """Encoded speech, and how many samples of the voice's it holds."""

    data: bytes
    samples: int


@dataclass(frozen=True)
class Figures:
    """What an answer took: the seconds by stage, and the tokens read and written."""

    timings: dict[str, float]
    tokens: tuple[int, int]


class Response:
    """An answer that is made, and what its client was sent of it.

    Args:
        session: whose answer it is.
        items: the messages that it answers, oldest first; those that weren't heard yet are heard first.
        request: for the engine, without the messages.
        options: `output_modalities`, `instructions`, `metadata` and the rest, as OpenAI's response object has them.
        is_in_conversation: whether the answer becomes part of the session's conversation.
    """

    def __init__(
        self, session: "Session", items: list[Item], request: Request, options: dict, is_in_conversation: bool = True
    ):
        self.session, self.items, self.request, self.options = session, items, request, options
        self.is_in_conversation = is_in_conversation
        self.id = f"resp_{uuid.uuid4().hex[:24]}"
        self.speaks = "audio" in options["output_modalities"]
        self.format = options["audio"]["output"]["format"].get("type") or "audio/pcm"
        self.item: Item | None = None
        self.playing_until = 0.0  # by the clock, if the client plays what it is sent as it comes
        self.is_created = False
        self.is_wanted = asyncio.Event()  # nothing is sent before
        self.is_wanted.set()
        self._figures: Figures | None = None
        self._unsent = 0  # samples
        self._reason: str | None = None
        self._can_end = False  # whether its task is where it can be cancelled
        self._turn = Turn(session.service.engine, request, session.service.metrics, self.speaks)

    def cancel(self, task: asyncio.Task, reason: str) -> None:
        """End the answer here, because of "turn_detected" or "client_cancelled"."""
        if self._reason is None:
            self._reason = reason
            if self._can_end:
                task.cancel()

    def interrupt(self) -> None:
        """Keep of the answer what was heard by the clock, until the client says how much it was."""
        if self.item is not None and self.item.spoken is not None and not self.item.is_cut:
            left = max(0.0, self.playing_until - time.monotonic())
            self.item.cut(self.item.samples / self.item.spoken.sampling_rate - left)

    async def run(self) -> None:
        """Make the answer, and send its events; an error becomes a `response.done` that has failed."""
        status = "completed"
        details: dict[str, Any] | None = None
        try:
            self._can_end = True
            if self._reason is not None:
                raise asyncio.CancelledError  # it was cancelled before it began
            if hearing := {part.hearing for item in self.items for part in item.parts if part.hearing}:
                await asyncio.wait(hearing)
            made = self.session.service.work.stream(self.session.id, self._produce)
            async with aclosing(made):
                async for event in made:
                    await self.is_wanted.wait()
                    await self._send_event(event)
            if self._turn.is_cut:
                status, details = "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        except asyncio.CancelledError:
            if self._reason is None:
                raise  # the session is over
            status, details = "cancelled", {"type": "cancelled", "reason": self._reason}
            self.interrupt()
        except Exception as error:
            await self.is_wanted.wait()
            told = as_api_error(error).body["error"]
            about = {key: told[key] for key in ("type", "code", "message")}
            status, details = "failed", {"type": "failed", "error": about}
            await self.session.send_error(error)
        await self.is_wanted.wait()
        self._can_end = False
        await self._finish(status, details)

    async def create(self) -> None:
        """Tell the client that there will be an answer."""
        if not self.is_created:
            self.is_created = True
            await self.session.send(ResponseCreatedEvent, response=self._dump("in_progress", None))

    def _produce(self, emit) -> None:
        """Hear what wasn't heard, think and speak, in a thread of the work queue."""
        clock, engine, seconds = Clock(), self.session.service.engine, 0.0
        for item in self.items:
            for part in item.parts:
                if part.sound is not None:
                    part.hear(engine, self.request, clock)
                    seconds += part.seconds
                    emit((item, part))
        question, turns, instructions = self._read()
        if question is None:
            return
        own = {"system_prompt": instructions} if instructions else {}
        self._turn.request = self.request.updated(history=turns, **own)
        encoder = Encoder(self.format, engine.tts.sampling_rate)

        def pass_on(event: Event) -> None:
            emit(Sound(encoder.write(event.audio), len(event.audio)) if isinstance(event, Audio) else event)

        emit(question)
        try:
            self._turn.answer_to(question, clock, pass_on, seconds)
        except TypeError as error:
            raise (self.session.service.without_speed() if "speed" in self.request.tts_kwargs else error) from error
        if self.speaks:
            emit(Sound(encoder.finish(), 0))
        asked = " ".join([*(turn["content"] for turn in turns), question.text])
        emit(Figures(clock.timings(), (count_tokens(engine, asked), count_tokens(engine, self._turn.answer))))

    def _read(self) -> tuple[Transcript | None, list[dict], str]:
        """Return the question, the turns before it, and the instructions; no question where nobody said a word."""
        instructions = [self.options["instructions"], *(item.text for item in self.items if item.role == "system")]
        turns: list[dict] = []
        language = self.request.language
        for item in self.items:
            text = item.text + ("…" if item.is_cut and item.text else "")
            language = next((part.language for part in item.parts if part.language), language)
            if item.role == "system" or not text:
                continue
            if turns and turns[-1]["role"] == item.role:  # what was asked goes on with what was asked next
                turns[-1] = {"role": item.role, "content": f"{turns[-1]['content']}\n{text}"}
            else:
                turns.append({"role": item.role, "content": text})
        asked = turns.pop()["content"] if turns and turns[-1]["role"] == "user" else None
        own = [each for each in instructions if each]
        if asked is None and not any(item.role == "user" for item in self.items) and own:
            asked = own.pop(0)  # an answer that nobody asked for, such as a greeting, does what it is told
        question = None if asked is None else Transcript(asked, language or "es")
        return question, turns, "\n\n".join(own)

    async def _send_event(self, event: Any) -> None:
        if isinstance(event, tuple):
            await self.session.send_transcript(*event)
        elif isinstance(event, Transcript):
            await self.create()
        elif isinstance(event, Text):
            await self._begin_item()
            assert self.item is not None
            kind = ResponseAudioTranscriptDeltaEvent if self.speaks else ResponseTextDeltaEvent
            self.item.parts[0].text = (self.item.parts[0].text or "") + event.text
            await self._send_part(kind, delta=event.text)
        elif isinstance(event, Sound):
            await self._send_sound(event)
        else:
            self._figures = event

    async def _send_sound(self, sound: Sound) -> None:
        self._unsent += sound.samples
        if not sound.data or self.item is None:
            return  # the encoder still holds it
        samples, self._unsent = self._unsent, 0
        width, rate = WIDTHS[self.format], RATES[self.format]
        step = round(DELTA_SECONDS * rate) * width
        count = len(range(0, len(sound.data), step))
        for index in range(count):
            data = sound.data[index * step : (index + 1) * step]
            self.item.samples += samples * (index + 1) // count - samples * index // count
            self.playing_until = max(self.playing_until, time.monotonic()) + len(data) / width / rate
            await self._send_part(ResponseAudioDeltaEvent, delta=to_base64(data))

    async def _begin_item(self) -> None:
        if self.item is not None:
            return
        await self.create()
        spoken = self._turn.spoken if self.speaks else None
        part = Part("output_audio" if self.speaks else "output_text", "")
        self.item = Item("assistant", [part], status="in_progress", spoken=spoken)
        begun = {**self.item.dump(), "content": []}
        await self.session.send(ResponseOutputItemAddedEvent, response_id=self.id, output_index=0, item=begun)
        if self.is_in_conversation:
            previous = self.session.conversation.insert(self.item)
            await self.session.send(ConversationItemAdded, item=begun, previous_item_id=previous)
        await self._send_part(ResponseContentPartAddedEvent, part=self._part())

    async def _finish(self, status: str, details: dict | None) -> None:
        if self.item is not None:
            await self._finish_item(status)
        if not self.is_created and status == "completed":
            return  # there was nothing to answer
        await self.create()
        await self.session.send(ResponseDoneEvent, response=self._dump(status, details))

    async def _finish_item(self, status: str) -> None:
        item = self.item
        assert item is not None
        item.status = "completed" if status == "completed" else "incomplete"
        if status in ("completed", "incomplete") and not item.is_cut:
            item.parts[0].text = self._turn.answer
        text = item.parts[0].text or ""
        if self.speaks:
            await self._send_part(ResponseAudioDoneEvent)
            await self._send_part(ResponseAudioTranscriptDoneEvent, transcript=text)
        else:
            await self._send_part(ResponseTextDoneEvent, text=text)
        await self._send_part(ResponseContentPartDoneEvent, part=self._part())
        await self.session.send(ResponseOutputItemDoneEvent, response_id=self.id, output_index=0, item=item.dump())
        if self.is_in_conversation:
            previous = self.session.conversation.before(item)
            await self.session.send(ConversationItemDone, item=item.dump(), previous_item_id=previous)

    async def _send_part(self, kind, **fields: Any) -> None:
        """Send an event about the answer's only part."""
        assert self.item is not None
        where = {"response_id": self.id, "item_id": self.item.id, "output_index": 0, "content_index": 0}
        await self.session.send(kind, **where, **fields)

    def _part(self) -> dict[str, Any]:
        assert self.item is not None
        text = self.item.parts[0].text or ""
        return {"type": "audio", "transcript": text} if self.speaks else {"type": "text", "text": text}

    def _dump(self, status: str, details: dict | None) -> RealtimeResponse:
        """Return the response as OpenAI's events have it; the seconds of each stage are in its metadata."""
        figures = self._figures
        metadata = dict(self.options.get("metadata") or {})
        usage = None
        if figures is not None:
            stages = ("asr", "llm", "tts", "first_audio", "total")
            seconds = {stage: figures.timings[stage] for stage in stages if stage in figures.timings}
            metadata |= {f"hfpipe.{stage}": f"{value:.3f}" for stage, value in seconds.items()}
            read, written = figures.tokens
            usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        return RealtimeResponse(
            object="realtime.response",
            id=self.id,
            status=status,
            status_details=details,
            output=[] if self.item is None or status == "in_progress" else [self.item.dump()],
            conversation_id=self.session.conversation.id if self.is_in_conversation else None,
            output_modalities=self.options["output_modalities"],
            max_output_tokens=self.options["max_output_tokens"],
            audio=self.options["audio"],
            metadata=metadata or None,
            usage=usage,
        )
