"""What the server listens to, whom it answers, and how much it takes."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MEBIBYTE = 1 << 20
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """The settings of one server.

    Attributes:
        folder: where voices and consents are kept; made where there is none, for this user alone.
        host: address to listen on.
        port: 0 is any free one.
        api_key: what clients send as `Authorization: Bearer`; None asks for none.
        origins: web pages that may call the server ("https://example.org"); their hosts are names of the server too.
        language: ISO 639-1 code of questions and answers where a request doesn't say; None detects it.
        concurrency: requests that are worked on at once, besides bulk work; 1 is one after the other.
        queue_size: requests that may wait, and of bulk work as many.
        max_bytes: of one recording.
        max_seconds: of one recording, decoded.
        header_seconds, body_seconds: within which a request's header and its body must arrive.
        stall_seconds: for which a streamed answer waits for a client that doesn't read it.
        grace_seconds: within which turns may end when the server is stopped.
        max_sessions: Realtime sessions at once.
        idle_seconds: after which a Realtime session ends whose client sends nothing.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    origins: tuple[str, ...] = ()
    language: str | None = "es"
    concurrency: int = 16
    queue_size: int = 64
    max_bytes: int = 25 * MEBIBYTE
    max_seconds: float = 600.0
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    stall_seconds: float = 30.0
    grace_seconds: float = 5.0
    max_sessions: int = 100
    idle_seconds: float = 600.0

    def __post_init__(self):
        """Raise ValueError for settings that can't be meant, or that would let strangers in."""
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(
                    f"the allowed origin is {origin!r}; valid is a scheme and a host, such as 'https://example.org' "
                    "or 'http://192.168.1.5:8000', without a path."
                )
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.strip()):
            raise ValueError("the API key is empty or isn't ASCII; give letters and digits, such as 32 random ones.")
        for name in ("concurrency", "queue_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; valid is 1 or more.")
        missing = [
            option
            for option, value in (("--api-key (or HFPIPE_API_KEY)", self.api_key), ("--allow-origin", self.origins))
            if not value
        ]
        if missing and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host} lets other machines in, so it also takes {' and '.join(missing)}: a key that "
                "clients must send, and the addresses under which browsers reach the server, such as "
                "--allow-origin https://example.org. Without them only 127.0.0.1 is served."
            )

    @property
    def host_names(self) -> frozenset[str]:
        """Names that a request's Host header may give the server, in lower case and without a port."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host.lower(),)
        return frozenset((*LOOPBACK_NAMES, *own, *(urlsplit(origin).hostname or "" for origin in self.origins)))


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
