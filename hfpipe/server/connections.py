"""Run uvicorn with a limit on the seconds that a header may take, and with an end that turns live through."""

import asyncio
import logging
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .realtime.api import drain
from .service import Service
from .settings import Settings

MAX_CONNECTIONS = 512
MAX_MESSAGE = 21 << 20  # bytes: 15 MiB of sound, OpenAI's limit, in base64
LAST_SECONDS = 3  # for cancelled turns to answer


class _Discretion(logging.Filter):
    """Keep what somebody said out of the log: an error's message may quote it.

    Refused WebSockets are left out too, which uvicorn takes for an error of the application.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return "without completing handshake" not in record.getMessage()


def protocol(header_seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP/1.1, closing connections whose header takes longer than so many seconds."""

    class TimedProtocol(H11Protocol):
        header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self.time_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.time_header()

        def connection_lost(self, exc) -> None:
            self.stop_timer()
            super().connection_lost(exc)

        def time_header(self) -> None:
            """Start the clock with a header's first byte, or with the connection; stop it with the last."""
            if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
                self.stop_timer()
            elif self.header_timer is None:
                self.header_timer = self.loop.call_later(header_seconds, self.transport.close)

        def stop_timer(self) -> None:
            if self.header_timer is not None:
                self.header_timer.cancel()
                self.header_timer = None

    return TimedProtocol


class Server(uvicorn.Server):
    """A uvicorn that, told to stop, lets turns end: those that run have some seconds, those that wait are refused.

    Args:
        app: the application.
        settings: its settings.
        service: what it serves.
    """

    def __init__(self, app, settings: Settings, service: Service):
        self.settings, self.service = settings, service
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=protocol(settings.header_seconds),
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=int(settings.grace_seconds) + LAST_SECONDS,
            access_log=False,
            log_level="warning",
            server_header=False,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_Discretion())

    async def shutdown(self, sockets=None) -> None:
        """Stop the queue, close the Realtime sessions, and cancel what still runs after the seconds of grace."""
        self.service.work.stop()
        cancel = asyncio.get_running_loop().call_later(self.settings.grace_seconds, self.service.work.cancel_all)
        await drain(self.service, self.settings.grace_seconds)
        await super().shutdown(sockets)
        cancel.cancel()
        self._captured_signals.clear()  # or uvicorn raises it again, and the process ends before it has cleaned up


def check_port(host: str, port: int) -> None:
    """Raise OSError if a server can't listen there; the message says what to do."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OSError(
            f"can't listen on {host}:{port} ({error.strerror or error}). Give another --port or --host, or end what "
            "listens there."
        ) from error
