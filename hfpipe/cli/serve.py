"""`hfpipe serve`: answer over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .console import plain_errors, progress, step

EXTRA = "hfpipe serve takes {}: pip install 'hfpipe[server]'"


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="A voice-qa repo or a Whisper: folder or Hub id; 'offline' needs no Hub."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="The language model: folder, Hub id or a server's URL.")] = None,
    tts: Annotated[str | None, typer.Option(help="The text-to-speech model: folder or Hub id.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own takes a key and an origin.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="HFPIPE_API_KEY", show_envvar=True, help="Key that clients must send.", show_default=False
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Address under which browsers may call, such as https://example.org; may be repeated."),
    ] = None,
    language: Annotated[str, typer.Option(help="Language code; 'auto' detects the language.")] = "es",
    concurrency: Annotated[
        int, typer.Option(help="Requests that are worked on at once; 1 answers one after the other.", min=1)
    ] = 16,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more are refused with 429.", min=1)] = 64,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for uploaded voices; by default in hfpipe's cache folder.")
    ] = None,
) -> None:
    """Serve OpenAI's API for speech and chat, and whole spoken turns at POST /, until Ctrl-C or SIGTERM."""
    with plain_errors():
        try:
            import fastapi as _fastapi  # noqa: F401
            import openai as _openai  # noqa: F401
            import prometheus_client as _prometheus_client  # noqa: F401
            import python_multipart as _python_multipart  # noqa: F401
            import uvicorn as _uvicorn  # noqa: F401
            import websockets as _websockets  # noqa: F401
        except ImportError as error:
            raise ImportError(EXTRA.format(error.name)) from error
        from ..pipeline.asr_whisper import language_code
        from ..pipeline.hub_cache import cache_folder
        from ..server.settings import Settings

        settings = Settings(
            folder=folder or cache_folder() / "server",
            host=host,
            port=port,
            api_key=api_key,
            origins=tuple(allow_origin or ()),
            language=None if language == "auto" else language_code(language),
            concurrency=concurrency,
            queue_size=queue,
        )
        from ..pipeline.logs import quiet_transformers
        from ..server.app import create_app
        from ..server.connections import Server, check_port
        from .models import load_voice_qa

        check_port(host, port)  # before the models load
        with quiet_transformers():
            pipe, sources = load_voice_qa(model, llm, tts)
            name = os.path.basename((model or sources["model"]).rstrip("/")) or "voice-qa"
            app = create_app(pipe, settings, name, _load_turn_detector())
            with step("Warming up"):
                app.state.service.warm_up()
            shown = f"[{host}]" if ":" in host else host
            progress.print(f"Serving on http://{shown}:{port} – endpoints at /docs, Ctrl-C ends it", highlight=False)
            Server(app, settings, app.state.service).run()
        progress.print("Stopped.")


def _load_turn_detector():
    """Return Smart Turn, or None where it can't be had: the server works without."""
    from ..offline.pypi_turns import smart_turn

    try:
        return smart_turn(progress.print)
    except (OSError, ImportError, ValueError) as error:
        progress.print(f"Note: hands-free turns end by pauses alone. {error}", highlight=False)
        return None
