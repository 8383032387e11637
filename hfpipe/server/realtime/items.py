"""The items of a conversation: what was said and written, and how much of the answers was heard."""

import asyncio
import math
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...pipeline.audio import load_recording
from ...pipeline.engine import Engine
from ...pipeline.engine_clock import Clock
from ...pipeline.engine_request import Request
from ...pipeline.errors import NoSpeech
from ...pipeline.live_spoken import SpokenWords
from ..errors import ApiError
from ..sound import from_base64
from .codec import RATES, WIDTHS, decode

MAX_ITEMS, MAX_CHARACTERS = 1000, 1 << 20  # of a conversation; then the oldest items are forgotten
MAX_UNHEARD = 600.0  # seconds of what was said and not heard yet
CONTENT = {
    "user": ("input_text", "input_audio"),
    "system": ("input_text",),
    "assistant": ("output_text", "output_audio"),
}


@dataclass(eq=False)
class Part:
    """One part of an item's content.

    Attributes:
        kind: "input_text", "input_audio", "output_text" or "output_audio".
        text: its words; None of a recording that hasn't been heard yet.
        sound: float32 (samples,) at `rate` Hz of what was said, until it is heard; then it is let go.
        language: ISO 639-1 code that was heard.
        hearing: the task that hears it apart from any answer.
        seconds: how long what was said lasts.
    """

    kind: str
    text: str | None = None
    sound: np.ndarray | None = None
    rate: int = RATES["audio/pcm"]
    language: str | None = None
    hearing: asyncio.Task | None = None

    def __post_init__(self):
        self.seconds = 0.0 if self.sound is None else len(self.sound) / self.rate

    def hear(self, engine: Engine, request: Request, clock: Clock) -> None:
        """Transcribe what was said, in the calling thread. Where no word is understood, the text is ""."""
        sound = self.sound
        if sound is None:
            return  # another thread, whose answer was interrupted, has just heard it
        recording = load_recording({"array": sound, "sampling_rate": self.rate})
        try:
            [heard] = engine.hear([recording], request, clock)
            self.text, self.language = heard.text, heard.language
        except NoSpeech:
            self.text = ""
        self.sound = None

    def dump(self) -> dict[str, Any]:
        """Return the part as OpenAI's events have it, without sound."""
        return {"type": self.kind, "transcript" if self.kind.endswith("audio") else "text": self.text}


@dataclass(eq=False)
class Item:
    """A message of a conversation.

    Attributes:
        spoken: which words of an answer its sound says; None of what isn't spoken here.
        samples: of the answer, that were sent.
        is_cut: whether the answer was interrupted, so that `parts` hold what was heard of it.
    """

    role: Literal["user", "assistant", "system"]
    parts: list[Part]
    id: str = field(default_factory=lambda: new_item_id())
    status: str = "completed"
    spoken: SpokenWords | None = None
    samples: int = 0
    is_cut: bool = False

    @property
    def text(self) -> str:
        """The words, of all parts."""
        return "\n".join(part.text for part in self.parts if part.text)

    def cut(self, seconds: float) -> None:
        """Keep the words that were said within so many seconds of what was sent."""
        assert self.spoken is not None
        samples = max(0, min(self.samples, round(seconds * self.spoken.sampling_rate)))
        self.parts[0].text, self.is_cut = self.spoken.within(samples), True

    def dump(self) -> dict[str, Any]:
        """Return the item as OpenAI's events have it, without sound."""
        content = [part.dump() for part in self.parts]
        about = {"id": self.id, "object": "realtime.item", "type": "message", "status": self.status}
        return {**about, "role": self.role, "content": content}


class Conversation:
    """The items of a session, in order."""

    def __init__(self):
        self.id = f"conv_{uuid.uuid4().hex[:24]}"
        self.items: list[Item] = []

    def insert(self, item: Item, after: str | None = None) -> str | None:
        """Add an item after another, at the beginning ("root") or at the end (None); return the id of that before it.

        Raises:
            ApiError: there is no such item, or there is one with this id, or too much wasn't heard yet.
        """
        if any(each.id == item.id for each in self.items):
            message = f"there is an item {item.id!r} already; give another id, or none."
            raise ApiError(400, message, "invalid_value", "item.id")
        index = len(self.items) if after is None else 0 if after == "root" else self.items.index(self.find(after)) + 1
        unheard = sum(part.seconds for each in (*self.items, item) for part in each.parts if part.sound is not None)
        if unheard > MAX_UNHEARD:
            message = (
                f"{unheard:.0f} s of the conversation wait to be heard; valid is {MAX_UNHEARD:.0f}: ask for an answer."
            )
            raise ApiError(413, message, "too_long", "item")
        self.items.insert(index, item)
        while len(self.items) > MAX_ITEMS or sum(len(each.text) for each in self.items) > MAX_CHARACTERS:
            del self.items[0]
        return self.before(item)

    def find(self, item_id: str) -> Item:
        """Return an item; raise `ApiError` if there is none."""
        for item in self.items:
            if item.id == item_id:
                return item
        message = f"there is no item {item_id!r} in this conversation."
        raise ApiError(404, message, "item_not_found", "item_id")

    def before(self, item: Item) -> str | None:
        """Return the id of the item before another; None if there is none, or the other was deleted."""
        index = self.items.index(item) if item in self.items else 0
        return self.items[index - 1].id if index > 0 else None

    def delete(self, item_id: str) -> None:
        """Forget an item."""
        self.items.remove(self.find(item_id))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Keep of a spoken answer what was heard in so many milliseconds.

        Raises:
            ApiError: no such item or part, it isn't a spoken answer, or it is shorter.
        """
        item = self.find(item_id)
        if item.spoken is None or item.parts[0].kind != "output_audio":
            message = f"the item {item_id!r} is no spoken answer; only these can be truncated."
            raise ApiError(400, message, "invalid_value", "item_id")
        if content_index != 0:
            message = f"content_index is {content_index}; valid is 0, the only part of an answer."
            raise ApiError(400, message, "invalid_value", "content_index")
        length = math.ceil(1000 * item.samples / item.spoken.sampling_rate)
        if not 0 <= audio_end_ms <= length:
            message = (
                f"audio_end_ms is {audio_end_ms}, but {length} ms of the audio were sent; valid is 0 to {length}."
            )
            raise ApiError(400, message, "invalid_value", "audio_end_ms")
        item.cut(audio_end_ms / 1000)


def new_item_id() -> str:
    """Return an id that no other item has."""
    return f"item_{uuid.uuid4().hex[:24]}"


def read_item(data: dict[str, Any], sound_format: str, max_seconds: float) -> Item:
    """Return an item that a client made.

    Args:
        data: an item as OpenAI has it.
        sound_format: of its recordings, one of `codec.RATES`.
        max_seconds: of a recording.

    Raises:
        ApiError: it isn't valid, or is none that this server can use.
    """
    role, content = data.get("role"), data.get("content")
    if data.get("type") != "message" or role not in CONTENT or not isinstance(content, list):
        kind = f"{data.get('type')!r} of role {role!r}"
        message = f"the item is a {kind}; valid is a 'message' of role 'user', 'assistant' or 'system' with content."
        raise ApiError(400, message, "not_supported", "item.type")
    parts = [_read_part(each, role, sound_format, max_seconds) for each in content]
    given = data.get("id")
    return Item(role, parts, given) if given else Item(role, parts)


def _read_part(data: Any, role: str, sound_format: str, max_seconds: float) -> Part:
    kind = data.get("type") if isinstance(data, dict) else None
    if kind not in CONTENT[role]:
        message = f"the content of a {role}'s message is {kind!r}; valid is {' or '.join(map(repr, CONTENT[role]))}."
        raise ApiError(400, message, "not_supported", "item.content")
    if kind != "input_audio":
        text = data.get("transcript" if kind == "output_audio" else "text")
        if not isinstance(text, str):
            raise ApiError(400, f"the {kind} holds no words.", "invalid_value", "item.content")
        return Part(kind, text)
    if not isinstance(data.get("audio"), str):
        message = "the input_audio holds no audio; give it in base64."
        raise ApiError(400, message, "invalid_value", "item.content")
    sound = from_base64(data["audio"], "item.content")
    width, rate = WIDTHS[sound_format], RATES[sound_format]
    if len(sound) > max_seconds * rate * width:
        message = f"the input_audio lasts more than {max_seconds:.0f} s; send a shorter one."
        raise ApiError(413, message, "too_long", "item.content")
    return Part(kind, sound=decode(sound[: len(sound) // width * width], sound_format), rate=rate)
