"""Play recordings, and answers while they are still being thought, in a notebook's page."""

import html
import os
import time

from ..pipeline.audio import load_audio
from ..pipeline.live_stream import Stream


def players(voices: dict[str, str | os.PathLike]):
    """Puts a player for each recording side by side, under its name, as an IPython `HTML` that holds the sound."""
    audio, as_html, _ = _ipython()
    cells = []
    for name, path in voices.items():
        samples, rate = load_audio(path)
        player = audio(samples, rate=rate, normalize=False)._repr_html_()
        cells.append(f"<div><b>{html.escape(name)}</b><br>{player}</div>")
    return as_html(f'<div style="display:flex;gap:24px;flex-wrap:wrap">{"".join(cells)}</div>')


def play(stream: Stream) -> dict:
    """Shows and plays an answer as it comes, each piece after the one before it, and gives its result.

    The page plays a piece as soon as it is shown, so each waits here until the one before it has been heard.
    """
    audio, _, display = _ipython()
    heard_until, said = time.monotonic(), ""
    for event in stream:
        if event.type == "transcript":
            print(f"— {event.text}")
        elif event.type == "audio":
            time.sleep(max(0.0, heard_until - time.monotonic()))
            if event.text != said:  # a phrase may come in several pieces
                print(f"  {event.text}")
            said = event.text
            display(audio(event.audio, rate=event.sampling_rate, autoplay=True, normalize=False))
            heard_until = time.monotonic() + len(event.audio) / event.sampling_rate
    time.sleep(max(0.0, heard_until - time.monotonic()))
    return stream.result


def _ipython():
    try:
        from IPython.display import HTML, Audio, display
    except ImportError as error:
        raise ImportError("IPython isn't installed: pip install ipython") from error
    return Audio, HTML, display
