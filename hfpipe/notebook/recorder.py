"""Record the microphone in a notebook in a browser: Colab, JupyterLab or Jupyter Notebook."""

import base64
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ..pipeline.audio import SAMPLING_RATE, load_audio, write_wav

RECORDER = Path(__file__).with_name("recorder.js")
SHOWN_WITHIN = 20.0  # seconds until the page must have shown the recorder
POLL = 0.05  # seconds between polls for messages from the page
INSTALL = "pip install 'hfpipe[notebook]', restart the kernel and reload the page"
RELOAD = (
    "Reload a page that was open while hfpipe[notebook] was installed; else use Colab, or JupyterLab in a browser."
)
UPLOAD = "Or upload an audio file and give its path."

# Advice by the name of getUserMedia's exception (W3C, Media Capture and Streams, §10.2), or "Cancelled".
PROBLEMS = {
    "NotAllowedError": "the browser refused the microphone. Allow it for this page (the icon left of the address) "
    "and run the cell again. VS Code gives notebooks no microphone: open them in a browser.",
    "NotFoundError": "the browser sees no microphone. Connect one and run the cell again.",
    "NotReadableError": "the microphone failed, or another program holds it. Close that and run the cell again.",
    "SecurityError": "the browser gives a microphone only to pages on https or localhost. Open the notebook there.",
    "Cancelled": "the recording was cancelled: its interface was removed. Run the cell again.",
}


def record(path="grabacion.wav", *, max_seconds: float = 120.0, silence: float | None = None) -> Path:
    """Record the browser's microphone to a 16 kHz mono 16-bit PCM WAV file; block until the recording has ended.

    A button below the cell starts ("Grabar") and stops ("Parar") the recording, next to a level meter and a clock. A
    page has one recorder: a new call cancels an earlier one. Interrupting the cell cancels the recording. Only record
    a `speaker_wav` with the consent of the speaker.

    Args:
        path: the file to write; it appears whole or not at all.
        max_seconds: duration in seconds after which the recording stops automatically.
        silence: duration in seconds of silence after speech at which the recording stops automatically; None disables
            this. Speech is detected by its level: at least -40 dBFS, and less than 20 dB below the loudest so far.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: this isn't a notebook, its page doesn't show the recorder, there is no microphone, the recording
            was cancelled, or nothing was recorded.
        PermissionError: the browser denied access to the microphone.
        ImportError: the extra `notebook` isn't installed in Jupyter. Colab doesn't need it.
        FileNotFoundError: the folder of `path` doesn't exist.
        ValueError: a duration isn't positive and finite.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to record into; make it first.")
    options = {"max_seconds": float(max_seconds), "silence": None if silence is None else float(silence)}
    for name, seconds in options.items():
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"{name} is {seconds}; valid are seconds above 0.")
    result, pieces = _record_in_colab(options) if "google.colab" in sys.modules else _record_in_jupyter(options)
    if "error" in result:
        kind = PermissionError if result["error"] == "NotAllowedError" else RuntimeError
        problem = f"the browser could not record: {result['error']}, {result['message']}."
        raise kind(f"{PROBLEMS.get(result['error'], problem)} {UPLOAD}")
    samples = np.frombuffer(b"".join(pieces), "<i2")
    if not samples.any():
        raise RuntimeError(
            "nothing was recorded: the microphone gave no sound. See that it isn't muted, and let a second pass "
            f"before Parar. {UPLOAD}"
        )
    write_wav(path, *load_audio({"array": samples, "sampling_rate": result["rate"]}, SAMPLING_RATE))
    return path


def _record_in_colab(options: dict) -> tuple[dict, list[bytes]]:
    """Return the result of `recordInColab`, and the chunks of audio."""
    from google.colab import output

    source = json.dumps(RECORDER.read_text(encoding="utf-8"))
    script = f"""(async () => {{
        const url = URL.createObjectURL(new Blob([{source}], {{ type: "text/javascript" }}));
        const {{ recordInColab }} = await import(url);
        URL.revokeObjectURL(url);
        return recordInColab({json.dumps(options)});
    }})()"""
    try:
        result = output.eval_js(script)
        count = result.get("pieces", 0)
        return result, [base64.b64decode(output.eval_js(f"hfpipeRecorder.piece({i})")) for i in range(count)]
    finally:
        output.eval_js("globalThis.hfpipeRecorder?.cancel()", ignore_result=True)


def _record_in_jupyter(options: dict) -> tuple[dict, list[bytes]]:
    """Return the last message of `render`, and the chunks of audio."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        raise RuntimeError(
            "record() needs a notebook in a browser (Colab, JupyterLab, Jupyter Notebook), and this is plain Python. "
            "Record with another program and give the file's path."
        )
    try:
        import anywidget
        import traitlets
        from IPython.display import display
        from jupyter_ui_poll import ui_events
    except ImportError as error:
        raise ImportError(f"recording in Jupyter needs anywidget and jupyter_ui_poll: {INSTALL}") from error
    if not hasattr(kernel, "do_one_iteration"):  # used by jupyter_ui_poll; removed in ipykernel 7
        raise ImportError(f"recording in Jupyter needs ipykernel 6, in which running cells get messages: {INSTALL}")

    class Recorder(anywidget.AnyWidget):
        _esm = RECORDER
        options = traitlets.Dict().tag(sync=True)

    widget = Recorder(options=options)
    came = {"shown": [], "piece": [], "end": []}
    widget.on_msg(lambda _, content, buffers: came[content["kind"]].append((content, buffers)))
    deadline = time.monotonic() + SHOWN_WITHIN
    # Cells deferred by jupyter_ui_poll run without the kernel's SIGINT handler, so an interrupt wouldn't reach them.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        display(widget)
        with ui_events() as poll:
            while not came["end"]:
                if not came["shown"] and time.monotonic() > deadline:
                    raise RuntimeError(
                        f"the notebook's page showed no recorder in {SHOWN_WITHIN:.0f} s. {RELOAD} {UPLOAD}"
                    )
                poll(10)  # messages, or fewer
                time.sleep(POLL)
    finally:
        signal.signal(signal.SIGINT, handler)
        widget.close()
    return came["end"][0][0], [bytes(buffers[0]) for _, buffers in came["piece"]]
