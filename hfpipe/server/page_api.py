"""`GET /`: the page that talks with the server, and the files that it is made of."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ..pipeline.engine_protocols import ClonesVoices, SavesVoices, SpeaksLanguages
from .errors import ApiError
from .service import service_of

router = APIRouter(include_in_schema=False)
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {file.name: file for file in Path(__file__).with_name("page").iterdir() if file.suffix in MEDIA_TYPES}
PATHS = frozenset(("/", *(f"/page/{name}" for name in FILES)))
HEADERS = {
    # 'self' includes WebSockets to the same host and port.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class Abilities(BaseModel):
    """What the page offers: the model's name, its languages, and what it does with voices."""

    model: str
    language: str | None
    languages: list[str]
    saves_voices: bool
    clones: bool


@router.get("/")
async def read_page() -> Response:
    """Return the page."""
    return _file("index.html")


@router.get("/page/model")
async def read_abilities(request: Request) -> Abilities:
    """Describe the model; unlike the page's files, this takes the key."""
    service = service_of(request)
    asr, tts = service.pipe.asr.model.generation_config, service.pipe.tts
    heard = [token.strip("<|>") for token in asr.lang_to_id] if asr.is_multilingual else ["en"]
    spoken = tts.languages if isinstance(tts, SpeaksLanguages) else None
    return Abilities(
        model=service.name,
        language=service.settings.language,
        languages=sorted(heard if spoken is None else set(heard) & set(spoken)),
        saves_voices=isinstance(tts, SavesVoices),
        clones=isinstance(tts, ClonesVoices) and tts.clones,
    )


@router.get("/page/{name}")
async def read_file(name: str) -> Response:
    """Return one of the files that the page is made of."""
    if name not in FILES:
        raise ApiError(404, f"the page has no file {name!r}.")
    return _file(name)


def _file(name: str) -> Response:
    file = FILES[name]
    return Response(file.read_bytes(), headers=HEADERS, media_type=MEDIA_TYPES[file.suffix])
