"""Recording in JupyterLab: a cell waits for its page, and the cells below wait for it."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import ALLOWED, MICROPHONE, Chromium, needs_chromium

pytestmark = pytest.mark.slow
CELLS = [
    "from hfpipe.notebook.recorder import record",
    "record('uno.wav', silence=None)",
    "record('dos.wav', max_seconds=0.5)",
    "try:\n    record('tres.wav')\nexcept KeyboardInterrupt:\n    print('interrumpido')",
]


@pytest.fixture
def jupyterlab(tmp_path):
    """Return the URL of a JupyterLab server in an empty folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {name: str(tmp_path / "jupyter") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    environment = os.environ | places | {"PYTHONPATH": str(Path(__file__).parents[2])}
    options = [
        f"--port={port}",
        "--no-browser",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--notebook-dir={tmp_path}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/api/status", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.2)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(20)


async def run_notebook(browser, address):
    """Open the notebook, run all cells and record; return what remains of the recorder in the page."""
    page = await browser.new_page()
    page.set_default_timeout(60_000)
    await page.goto(f"{address}/lab/tree/n.ipynb")
    await page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    await page.get_by_role("menuitem", name="Run", exact=True).click()
    await page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    await page.get_by_role("button", name="Grabar").click()
    await page.get_by_text(re.compile(r"^1,\d s$")).wait_for()
    await page.get_by_role("button", name="Parar").click()
    await page.get_by_text("PosixPath('uno.wav')").wait_for()
    await page.get_by_role("button", name="Grabar").click()
    await page.get_by_text("PosixPath('dos.wav')").wait_for()
    await page.get_by_role("button", name="Grabar").click()
    await page.get_by_role("button", name="Parar").wait_for()
    await page.get_by_role("menuitem", name="Kernel", exact=True).click()
    await page.get_by_role("menuitem", name="Interrupt Kernel").click()
    await page.get_by_text("interrumpido", exact=True).wait_for()
    await page.locator(".hfpipe-recorder").wait_for(state="detached")
    return await page.evaluate("Object.keys(globalThis).filter((name) => name.startsWith('hfpipe'))")


@needs_chromium
@pytest.mark.skipif(importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab isn't installed")
def test_cells_record_one_after_the_other_and_can_be_interrupted(jupyterlab, tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / "n.ipynb")
    heard = tmp_path / "microphone.wav"
    soundfile.write(heard, 0.3 * np.sin(np.arange(480_000) * 2 * np.pi * 440 / 48_000), 48_000)
    browser = Chromium(MICROPHONE, ALLOWED, f"--use-file-for-fake-audio-capture={heard}")
    try:
        left = browser.run(run_notebook(browser.browser, jupyterlab), timeout=120)
    finally:
        browser.close()
    assert left == []
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["dos.wav", "microphone.wav", "uno.wav"]
    for name, shortest, longest in (("uno", 1.0, 3.0), ("dos", 0.5, 0.5)):
        samples, rate = soundfile.read(tmp_path / f"{name}.wav")
        peak = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples)
        assert rate == 16_000 and shortest <= len(samples) / rate <= longest and peak == pytest.approx(440, abs=3)
