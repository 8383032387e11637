"""A server that really runs, on a free port of the loopback interface."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
from own_parts import wait_until

from hfpipe.server.app import create_app
from hfpipe.server.connections import Server
from hfpipe.server.service import Service
from hfpipe.server.settings import Settings


@dataclass(frozen=True)
class Running:
    """A server that runs in this process."""

    port: int
    service: Service
    settings: Settings
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options) -> openai.OpenAI:
        """Return the official client, which doesn't try again."""
        key = self.settings.api_key or "none"
        return openai.OpenAI(
            **{"base_url": f"{self.url}/v1", "api_key": key, "max_retries": 0, "timeout": 60, **options}
        )


@contextlib.contextmanager
def running(pipe, folder: Path, turn_detector=None, **options) -> Iterator[Running]:
    """Run a server in a thread until the block ends."""
    settings = Settings(folder=folder, **{"port": 0, **options})
    app = create_app(pipe, settings, "tiny", turn_detector)
    server = Server(app, settings, app.state.service)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        assert wait_until(lambda: server.started, 20)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(port, app.state.service, settings, lambda: setattr(server, "should_exit", True))
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
