"""A headless Chromium that a test drives from a second thread, while what it tests blocks the first."""

import asyncio
import shutil
import threading
from importlib.util import find_spec

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXECUTABLE = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(
    EXECUTABLE is None or find_spec("playwright") is None,
    reason=f"it takes playwright, and one of {', '.join(NAMES)} on the PATH",
)
MICROPHONE = "--use-fake-device-for-media-stream"
ALLOWED = "--use-fake-ui-for-media-stream"
REFUSED = "--deny-permission-prompts"

# Keeps what a page opens, so that a test can see it closed.
KEEPS = """
globalThis.contexts = [];
globalThis.tracks = [];
globalThis.AudioContext = class extends AudioContext {
  constructor(...options) { super(...options); contexts.push(this); }
};
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wish) => {
  const stream = await open(wish);
  tracks.push(...stream.getTracks());
  return stream;
};
"""
LEFT = """async () => {
  await new Promise((resolve) => setTimeout(resolve, 100)); // a context takes a moment to close
  return {
    opened: contexts.length,
    left: [
      ...contexts.map((context) => context.state).filter((state) => state !== "closed"),
      ...tracks.map((track) => track.readyState).filter((state) => state !== "ended"),
      ...Object.keys(globalThis).filter((name) => name.startsWith("hfpipe")),
      ...[...document.body.children].map((element) => element.outerHTML),
    ],
  };
}"""

# A microphone that is heard faster than in real time: a sine of 440 Hz whose `gain` begins anew at each `second`.
FAST_MICROPHONE = """
const RATE = 48000;
const loudness = %s;
navigator.mediaDevices.getUserMedia = async () => {
  const track = Object.assign(new EventTarget(), { stop() {} });
  return { getTracks: () => [track] };
};
globalThis.AudioContext = class extends OfflineAudioContext {
  constructor() { super(1, 150 * RATE, RATE); }
  async close() {}
  createMediaStreamSource() {
    const tone = this.createOscillator();
    const gain = this.createGain();
    for (const [second, value] of loudness) gain.gain.setValueAtTime(value, second);
    tone.connect(gain);
    tone.start();
    const connect = gain.connect.bind(gain);
    gain.connect = (node) => { connect(node); this.startRendering(); };
    return gain;
  }
};
"""


class Chromium:
    """One browser; its coroutines run in a thread of their own."""

    def __init__(self, *flags):
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.run(self._launch(flags))

    async def _launch(self, flags):
        from playwright.async_api import async_playwright

        self._playwright = await async_playwright().start()
        self.browser = await self._playwright.chromium.launch(executable_path=EXECUTABLE, args=list(flags))

    def begin(self, coroutine):
        """Starts a coroutine; its future tells how it went."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine, timeout=60):
        return self.begin(coroutine).result(timeout)

    def page(self, script=""):
        """Opens an empty page of a secure origin, in which a script ran before all others."""
        return self.run(self._page(script))

    async def _page(self, script):
        page = await self.browser.new_page()
        await page.add_init_script(script)
        await page.route(
            "http://localhost/", lambda route: route.fulfill(content_type="text/html", body="<body></body>")
        )
        await page.goto("http://localhost/")
        return page

    def close(self):
        self.run(self.browser.close())
        self.run(self._playwright.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
