"""The WebSocket of the Realtime API."""

import asyncio

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ..errors import ApiError
from ..service import Service
from .config import SessionConfig
from .session import Session

router = APIRouter()
TRY_AGAIN, GOING_AWAY, RESTART = 1013, 1001, 1012  # close codes


@router.websocket("/v1/realtime")
async def talk(websocket: WebSocket) -> None:
    """Hold a spoken conversation. `model` may name any; `intent=transcription` hears and doesn't answer."""
    service: Service = websocket.app.state.service
    wanted = websocket.headers.get("sec-websocket-protocol", "")
    await websocket.accept("realtime" if "realtime" in [each.strip() for each in wanted.split(",")] else None)

    async def send_text(text: str) -> None:
        if websocket.client_state is WebSocketState.CONNECTED:
            try:
                await websocket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                pass  # it has just left; whoever receives is told

    kind = "transcription" if websocket.query_params.get("intent") == "transcription" else "realtime"
    session = Session(service, send_text, SessionConfig.default(service.name, service.settings.language, kind))
    error = _reason_to_refuse(service)
    if error is not None:
        await session.send_error(error)
        return await websocket.close(RESTART if service.work.is_stopped else TRY_AGAIN)
    service.sessions[session] = websocket
    try:
        await session.start()
        await _converse(websocket, session, service.settings.idle_seconds)
    finally:
        del service.sessions[session]
        await session.close()


async def drain(service: Service, seconds: float) -> None:
    """Close all sessions, each once its answer is made, or after so many seconds."""

    async def end(session: Session, websocket: WebSocket) -> None:
        try:
            async with asyncio.timeout(seconds):
                await session.finish()
        except TimeoutError:
            pass
        await _close(websocket, RESTART)

    await asyncio.gather(*(end(session, websocket) for session, websocket in list(service.sessions.items())))


async def _converse(websocket: WebSocket, session: Session, idle_seconds: float) -> None:
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                message = await websocket.receive()
        except TimeoutError:
            text = f"nothing was sent for {idle_seconds:.0f} s; connect again."
            await session.send_error(ApiError(408, text, "session_expired"))
            return await _close(websocket, GOING_AWAY)
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") is None:
            text = "the message is binary; send JSON as text, with sound in base64."
            await session.send_error(ApiError(400, text, "invalid_value"))
        else:
            await session.handle(message["text"])


async def _close(websocket: WebSocket, code: int) -> None:
    if websocket.client_state is WebSocketState.CONNECTED:
        try:
            await websocket.close(code)
        except RuntimeError:
            pass  # it has just left


def _reason_to_refuse(service: Service) -> ApiError | None:
    if service.work.is_stopped:
        return ApiError(503, "the server is being stopped; connect again when it is back.", "stopping")
    if len(service.sessions) >= service.settings.max_sessions:
        message = f"there are {len(service.sessions)} sessions already; try again later."
        return ApiError(429, message, "too_many_sessions")
    if service.work.is_full:
        return ApiError(429, f"{service.work.waiting} requests wait already; try again later.", "queue_full")
    return None
