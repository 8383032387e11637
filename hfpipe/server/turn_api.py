"""`POST /`: a recording and the messages so far in, what was heard and the spoken answer out."""

from typing import Annotated

import pydantic_core
from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import BaseModel

from ..pipeline.audio import SAMPLING_RATE
from ..pipeline.engine_clock import Clock
from ..pipeline.llm_answer import split_history
from .errors import ApiError
from .service import client_of, service_of
from .sound import decode_recording, encode, to_base64
from .turns import Turn

router = APIRouter(tags=["turn"])


class TurnAnswer(BaseModel):
    """A turn: what was heard, what is answered, and its sound as a data: URL of a WAV file."""

    input: str
    text: str
    audio: str


@router.post("/")
async def answer_turn(
    request: Request,
    audio: Annotated[UploadFile, File(description="The spoken question.")],
    messages: Annotated[
        str, Form(description="JSON: the turns so far, [{'role', 'content'}, …], oldest first.")
    ] = "[]",
) -> TurnAnswer:
    """Answer a spoken question aloud."""
    service, data = service_of(request), await audio.read()
    try:
        history = pydantic_core.from_json(messages)
    except ValueError as error:
        raise ApiError(400, f"messages isn't valid JSON ({error}).", "invalid_json", "messages") from error
    if not isinstance(history, list):
        raise ApiError(400, "messages is no list; valid is a list of turns.", "invalid_value", "messages")
    split_history(history, None)
    asked = service.request(history=history)

    def compute() -> TurnAnswer:
        clock = Clock()
        recording = decode_recording(data, service.settings)
        turn = Turn(service.engine, asked, service.metrics)
        heard = turn.hear(recording, clock)
        turn.answer_to(heard, clock, lambda event: None, len(recording.samples) / SAMPLING_RATE)
        wav = encode(turn.audio, service.pipe.tts.sampling_rate, "wav")
        return TurnAnswer(input=heard.text, text=turn.answer, audio=f"data:audio/wav;base64,{to_base64(wav)}")

    return await service.work.run(client_of(request), compute)
