"""Voices: upload one with who consented, list, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from openai.types.audio import VoiceConsent, VoiceConsentDeleted, VoiceDeleted

from .errors import ApiError
from .service import client_of, service_of
from .sound import decode_recording, decode_reference

router = APIRouter(prefix="/v1/audio", tags=["voices"])
Name = Annotated[str, Form(min_length=1, max_length=200)]


@router.get("/voices")
async def list_voices(request: Request) -> dict[str, Any]:
    """List the voices that can be asked for, with who consented to those that were uploaded."""
    return {"object": "list", "data": service_of(request).voices.names()}


@router.post("/voices")
async def create_voice(
    request: Request,
    name: Annotated[str, Form(min_length=1, max_length=64)],
    audio_sample: Annotated[UploadFile, File(description="10 to 15 s of one speaker who consented.")],
    consent_by: Annotated[str | None, Form(max_length=200, description="Who agreed that the voice be cloned.")] = None,
    consent_on: Annotated[str | None, Form(max_length=32, description="The day, such as 2026-11-22.")] = None,
    consent: Annotated[str | None, Form(max_length=64, description="Instead, a consent's id.")] = None,
) -> dict[str, Any]:
    """Save a voice: what the model computes of the recording, and not the recording."""
    service, data = service_of(request), await audio_sample.read()
    if consent:
        consent_by = service.voices.find_consent(consent)["name"]
    if not consent_by or not consent_by.strip():
        message = "nobody consented; give consent_by, the name of who agreed that the voice be cloned, or consent."
        raise ApiError(400, message, "missing_consent", "consent_by")
    agreed = consent_by

    def compute() -> dict[str, Any]:
        return service.voices.save(name, decode_reference(data, service.settings), agreed, consent_on)

    return await service.work.run(client_of(request), compute)


@router.delete("/voices/{name}")
async def delete_voice(request: Request, name: str) -> VoiceDeleted:
    """Delete a voice that was uploaded."""
    service_of(request).voices.delete(name)
    return VoiceDeleted(id=name, deleted=True, object="audio.voice.deleted")


@router.get("/voice_consents")
async def list_consents(request: Request) -> dict[str, Any]:
    """List the recorded consents."""
    found = service_of(request).voices.list_consents()
    ends = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {}
    return {"object": "list", "data": found, "has_more": False, **ends}


@router.post("/voice_consents")
async def create_consent(
    request: Request,
    name: Name,
    language: Annotated[str, Form(min_length=2, max_length=35)],
    recording: Annotated[UploadFile, File(description="The speaker, agreeing.")],
) -> VoiceConsent:
    """Keep the recording of a consent, which is kept until it is deleted."""
    service, data = service_of(request), await recording.read()

    def compute() -> dict[str, Any]:
        decode_recording(data, service.settings)  # refuses what is no recording
        return service.voices.add_consent(name, language, data)

    return VoiceConsent(**await service.work.run(client_of(request), compute))


@router.delete("/voice_consents/{consent}")
async def delete_consent(request: Request, consent: str) -> VoiceConsentDeleted:
    """Delete a consent and its recording."""
    service_of(request).voices.delete_consent(consent)
    return VoiceConsentDeleted(id=consent, deleted=True, object="audio.voice_consent")
