"""Put the server together."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..pipeline.logs import logger
from ..pipeline.voice_qa import VoiceQAPipeline
from . import audio_api, chat_api, page_api, status_api, turn_api, voices_api
from .errors import add_error_handlers
from .gate import Bodies, Guard, KeyCheck
from .metrics import Metrics
from .realtime import api as realtime_api
from .service import Service, TurnDetector
from .settings import Settings


def create_app(
    pipe: VoiceQAPipeline, settings: Settings, name: str = "voice-qa", turn_detector: TurnDetector | None = None
) -> FastAPI:
    """Return the ASGI application that serves a pipeline.

    Args:
        pipe: the pipeline, whose models all requests share.
        settings: see `Settings`.
        name: of the model, for `/v1/models`.
        turn_detector: such as `SmartTurn`, for "semantic_vad"; without one that goes by the pause.

    Raises:
        OSError, ValueError: the folder can't be used, or holds a damaged voice.
    """
    service = Service(pipe, settings, name, turn_detector)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.work.close()
        service.listening.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="hfpipe", version=__version__, docs_url=None, redoc_url=None, lifespan=live)
    app.state.service = service
    for api in (turn_api, audio_api, voices_api, chat_api, realtime_api, status_api, page_api):
        app.include_router(api.router)
    add_error_handlers(app)
    # The last one added sees a request first.
    app.add_middleware(Bodies, settings=settings)
    app.add_middleware(KeyCheck, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(RequestLog, metrics=service.metrics)
    return app


class RequestLog:
    """Log and count each request: its route, its status and its seconds, and nothing that a client wrote."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.monotonic(), "gone"

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, status).inc()
            logger.info("%s %s in %.2f s", route, status, time.monotonic() - start)
