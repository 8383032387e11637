"""OpenAI's audio endpoints: transcriptions, translations and speech."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse, Response
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)
from openai.types.audio.transcription import UsageDuration
from openai.types.audio.transcription_text_done_event import Usage as UsageTokens
from openai.types.audio.transcription_verbose import Usage as UsageVerbose
from pydantic import BaseModel, Field

from ..pipeline.asr_whisper import POSITIONS_PER_SECOND, language_code
from ..pipeline.audio import SAMPLING_RATE
from ..pipeline.engine_clock import Clock
from .errors import ApiError
from .service import Service, client_of, service_of
from .sound import MEDIA_TYPES, Encoder, check_format, decode_recording, decode_reference, from_base64, to_base64
from .sse import SSE, event, streamed
from .transcripts import Chunk, check_task, language_name, segments_of, subtitles, transcribe, words_of
from .turns import count_tokens, speak

router = APIRouter(prefix="/v1/audio", tags=["audio"])
MAX_INPUT = 4096  # characters, OpenAI's limit
TextFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Prompt = Annotated[str, Form(max_length=10_000, description="Names and terms in the spelling that is to be followed.")]
Temperature = Annotated[float, Form(ge=0, le=1, description="To begin with; it is raised where Whisper is unsure.")]
SoundFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


class VoiceId(BaseModel):
    """A voice, as OpenAI names one of the user's own."""

    id: str


class VoiceReference(BaseModel):
    """A recording of a voice to speak with, and who consented to that: an extension of OpenAI's API."""

    data: str = Field(description="Base64 of an audio file: 10 to 15 s of one speaker.")
    consent_by: str = Field(min_length=1, max_length=200, description="Who agreed that the voice be cloned.")


class SpeechBody(BaseModel):
    """What to say, and how."""

    input: str = Field(min_length=1, max_length=MAX_INPUT)
    model: str = ""
    voice: str | VoiceId = "default"
    response_format: SoundFormat = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4.0)
    stream_format: Literal["sse", "audio"] = "audio"
    instructions: str | None = Field(None, description="Accepted, and left unused.")
    language: str | None = Field(None, description="An extension: code of the language, 'es' or 'es-MX'.")
    reference: VoiceReference | None = None


@router.post("/transcriptions", response_model=None)
async def create_transcription(
    request: Request,
    file: Annotated[UploadFile, File(description="The recording: wav, flac, ogg or mp3; with FFmpeg, any other.")],
    model: Annotated[str, Form()] = "",
    language: Annotated[str | None, Form(description="ISO 639-1 code; by default it is detected.")] = None,
    response_format: Annotated[TextFormat, Form()] = "json",
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")
    ] = None,
    prompt: Prompt = "",
    temperature: Temperature = 0.0,
    stream: Annotated[bool, Form()] = False,
) -> Transcription | TranscriptionVerbose | Response:
    """Transcribe a recording. `model` is accepted, and left unused."""
    by_word = "word" in (timestamp_granularities or ())
    if by_word and response_format != "verbose_json":
        message = "timestamp_granularities takes response_format 'verbose_json'."
        raise ApiError(400, message, "invalid_value", "timestamp_granularities")
    options = {"by_word": by_word, "prompt": prompt, "temperature": temperature}
    return await _transcribe(request, file, "transcribe", language, response_format, options, stream)


@router.post("/translations", response_model=None)
async def create_translation(
    request: Request,
    file: Annotated[UploadFile, File(description="The recording: wav, flac, ogg or mp3; with FFmpeg, any other.")],
    model: Annotated[str, Form()] = "",
    prompt: Prompt = "",
    response_format: Annotated[TextFormat, Form()] = "json",
    temperature: Temperature = 0.0,
) -> Translation | TranslationVerbose | Response:
    """Translate a recording to English, where the Whisper can. The prompt is in English."""
    options = {"by_word": False, "prompt": prompt, "temperature": temperature}
    return await _transcribe(request, file, "translate", None, response_format, options, False)


async def _transcribe(
    request: Request, file: UploadFile, task: str, language: str | None, form: str, options: dict, stream: bool
) -> Any:
    service, data = service_of(request), await file.read()
    asr, code = service.pipe.asr, language_code(language or None)
    check_task(asr, task, options["by_word"])
    seconds = 0.0

    def produce(emit) -> None:
        nonlocal seconds
        samples = decode_recording(data, service.settings).samples
        seconds, clock = len(samples) / SAMPLING_RATE, Clock()
        is_verbose = form == "verbose_json"
        heard = transcribe(asr, samples, code, task=task, with_details=is_verbose, **options)
        for chunk in _timed(heard, clock):
            emit(chunk)
        service.metrics.observe(clock.timings(), heard=seconds)

    found = service.work.stream(client_of(request), produce, is_bulk=True)
    if stream:
        return await streamed(_transcript_events(service, found, lambda: seconds), SSE)
    async with aclosing(found):
        chunks = [chunk async for chunk in found]
    text = " ".join(chunk.text for chunk in chunks)
    if form in ("srt", "vtt"):
        return PlainTextResponse(subtitles(chunks, form))
    if form == "text":
        return PlainTextResponse(text + "\n")
    if form == "json" and task == "translate":
        return Translation(text=text)
    if form == "json":
        return Transcription(text=text, usage=UsageDuration(type="duration", seconds=math.ceil(seconds)))
    described: dict[str, Any] = {"duration": seconds, "text": text, "segments": segments_of(chunks)}
    if task == "translate":
        return TranslationVerbose(language="english", **described)
    words = words_of(chunks) if options["by_word"] else None
    usage = UsageVerbose(type="duration", seconds=math.ceil(seconds))
    return TranscriptionVerbose(language=language_name(chunks, code), words=words, usage=usage, **described)


def _timed(chunks, clock: Clock):
    """Yield what an iterator does, counting its own time as that of hearing."""
    while True:
        with clock.stage("asr"):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


async def _transcript_events(service: Service, found, seconds) -> AsyncGenerator[bytes, None]:
    chunks: list[Chunk] = []
    async with aclosing(found):
        async for chunk in found:
            delta = f" {chunk.text}" if chunks else chunk.text
            chunks.append(chunk)
            yield event(TranscriptionTextDeltaEvent(type="transcript.text.delta", delta=delta))
    text = " ".join(chunk.text for chunk in chunks)
    heard = round(seconds() * POSITIONS_PER_SECOND)  # what Whisper's encoder makes of the sound
    written = len(service.pipe.asr.tokenizer(text, add_special_tokens=False)["input_ids"])
    usage = UsageTokens(type="tokens", input_tokens=heard, output_tokens=written, total_tokens=heard + written)
    yield event(TranscriptionTextDoneEvent(type="transcript.text.done", text=text, usage=usage))


@router.post("/speech", response_class=Response)
async def create_speech(request: Request, body: SpeechBody) -> Response:
    """Speak a text; the audio is sent as it is made. `model` and `instructions` are accepted, and left unused."""
    service = service_of(request)
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    asked = service.request(None if body.reference else voice, body.language)
    if body.speed != 1.0:
        asked = asked.updated(tts_kwargs={**asked.tts_kwargs, "speed": body.speed})
    check_format(body.response_format)

    def produce(emit) -> None:
        given = asked
        if body.reference is not None:
            data = from_base64(body.reference.data, "reference.data")
            given = asked.updated(speaker_wav=decode_reference(data, service.settings))
        with Encoder(body.response_format, service.pipe.tts.sampling_rate) as encoder:
            try:
                for sound in speak(service.engine, body.input, asked.language or "es", given, service.metrics):
                    emit(encoder.write(sound))
            except TypeError as error:
                raise (service.without_speed() if "speed" in given.tts_kwargs else error) from error
            emit(encoder.finish())

    made = service.work.stream(client_of(request), produce)
    if body.stream_format == "sse":
        return await streamed(_speech_events(service, body.input, made), SSE)
    return await streamed(_without_empty(made), MEDIA_TYPES[body.response_format])


async def _without_empty(chunks) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk:
                yield chunk


async def _speech_events(service: Service, text: str, chunks) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk:
                yield event({"type": "speech.audio.delta", "audio": to_base64(chunk)})
    given = count_tokens(service.engine, text)
    usage = {"input_tokens": given, "output_tokens": 0, "total_tokens": given}
    yield event({"type": "speech.audio.done", "usage": usage})
