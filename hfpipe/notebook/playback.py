"""Play recordings and streamed answers in a notebook."""

import html
import os
import time

from ..pipeline.audio import load_audio
from ..pipeline.live_stream import Stream


def players(voices: dict[str, str | os.PathLike]):
    """Return an IPython `HTML` with an audio player for each recording, side by side, with the audio embedded."""
    audio, as_html, _ = _ipython()
    cells = []
    for name, path in voices.items():
        samples, rate = load_audio(path)
        player = audio(samples, rate=rate, normalize=False)._repr_html_()
        cells.append(f"<div><b>{html.escape(name)}</b><br>{player}</div>")
    return as_html(f'<div style="display:flex;gap:24px;flex-wrap:wrap">{"".join(cells)}</div>')


def play(stream: Stream) -> dict | None:
    """Display and play a streamed answer chunk by chunk, and return its result.

    The browser plays a chunk as soon as it is displayed, so each one is held back until the previous one has ended.
    """
    audio, _, display = _ipython()
    ends, shown = time.monotonic(), ""
    for event in stream:
        if event.type == "transcript":
            print(f"— {event.text}")
        elif event.type == "audio":
            time.sleep(max(0.0, ends - time.monotonic()))
            if event.text != shown:  # a phrase may have several chunks
                print(f"  {event.text}")
            shown = event.text
            display(audio(event.audio, rate=event.sampling_rate, autoplay=True, normalize=False))
            ends = time.monotonic() + len(event.audio) / event.sampling_rate
    time.sleep(max(0.0, ends - time.monotonic()))
    return stream.result


def _ipython():
    try:
        from IPython.display import HTML, Audio, display
    except ImportError as error:
        raise ImportError("IPython isn't installed: pip install 'hfpipe[notebook]'") from error
    return Audio, HTML, display
