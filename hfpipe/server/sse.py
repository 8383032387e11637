"""Server-sent events, and responses whose work ends with them."""

import json
from collections.abc import AsyncGenerator

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .errors import as_api_error

SSE = "text/event-stream"
END = b"data: [DONE]\n\n"


def event(content: BaseModel | dict) -> bytes:
    """Return a server-sent event that holds JSON."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json", exclude_unset=True)
    return b"data: " + json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


class Streamed(StreamingResponse):
    """A response that closes its generator when it ends, however it ends: that cancels its work."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str):
        super().__init__(chunks, media_type=media_type)
        self.chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.chunks.aclose()


async def streamed(chunks: AsyncGenerator[bytes, None], media_type: str) -> StreamingResponse:
    """Return a response of chunks, once the first is there: an error before it has a status of its own.

    A later error ends server-sent events with an event that holds it, and cuts any other response.
    """
    try:
        first = await anext(chunks, b"")
    except BaseException:
        await chunks.aclose()
        raise

    async def body() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        except Exception as error:
            if media_type != "text/event-stream":
                raise
            yield event(as_api_error(error).body)
        finally:
            await chunks.aclose()

    return Streamed(body(), media_type)
