"""The server's page in a real Chromium: what it shows, sends, receives and plays."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from chromium import Chromium

# Notes how loud the speakers are every 10 ms, and when each event of the server came.
NOTES = """
globalThis.loudness = []; // [milliseconds, peak]
globalThis.events = []; // [milliseconds, type]
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    const analyser = new AnalyserNode(target.context, { fftSize: 256 });
    const samples = new Float32Array(analyser.fftSize);
    connect.call(this, analyser);
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      loudness.push([performance.now(), Math.max(...samples.map(Math.abs))]);
    }, 10);
  }
  return connect.call(this, target, ...rest);
};
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => events.push([performance.now(), JSON.parse(data).type]));
  }
};
"""


@dataclass
class Visit:
    """A page that is open.

    Attributes:
        page: Playwright's.
        sent: the events that it sent over WebSockets.
        errors: what it wrote on the console as an error, or left uncaught.
    """

    page: Any
    sent: list[dict] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def sent_of(self, kind: str) -> list[dict]:
        """Return the events of a type that were sent."""
        return [event for event in self.sent if event["type"] == kind]

    async def reaches(self, state: str) -> None:
        """Wait until the page says that it is in a state."""
        await self.page.locator(f"#talk[data-state={state}]").wait_for()

    async def ask(self, question: str) -> None:
        """Type a question."""
        await self.page.get_by_role("textbox", name="Escribe una pregunta").fill(question)
        await self.page.keyboard.press("Enter")

    async def answered(self, count: int) -> list[str]:
        """Wait until so many answers are there and have been heard, and return them."""
        answers = self.page.locator(".assistant:not(.coming)")
        await answers.nth(count - 1).wait_for()
        await self.reaches("ready")
        return await answers.locator(".words").all_inner_texts()

    async def asked(self) -> list[str]:
        """Return the questions that are shown."""
        return await self.page.locator(".user .words").all_inner_texts()

    async def silent_after(self, kind: str) -> float:
        """Return the milliseconds from the server's last event of a type until nothing was played any more.

        Raises AssertionError if nothing was played as it came.
        """
        await self.page.wait_for_timeout(500)
        events, loudness = await self.page.evaluate("[events, loudness]")
        return silence_after(max(at for at, name in events if name == kind), loudness)

    async def silent_since(self, moment: float) -> float:
        """Return the same from a moment on, in milliseconds of the page's clock."""
        await self.page.wait_for_timeout(500)
        return silence_after(moment, await self.page.evaluate("loudness"))

    async def download(self, locator) -> Any:
        """Return the path of the file that a click downloads."""
        async with self.page.expect_download() as found:
            await locator.click()
        return await (await found.value).path()


def silence_after(moment: float, loudness: list[tuple[float, float]]) -> float:
    """Return how long after a moment the last sound was played."""
    played = [at for at, peak in loudness if peak > 0.001]
    assert any(moment - 300 < at <= moment for at in played), "nothing was played just before"
    return max(played) - moment


def visit(
    chromium: Chromium, url: str, steps: Callable[[Visit], Awaitable[Any]], seconds: float = 120, **options
) -> Any:
    """Open the page, do the steps and return what they do; fail if it tells an error on its console.

    Args:
        chromium: the browser.
        url: of the server.
        steps: what is done; takes a `Visit`.
        seconds: that all of it may take.
        options: of Playwright's browser context.
    """

    async def run() -> tuple[Any, list[str]]:
        settings = {"locale": "es-ES", "viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
        context = await chromium.browser.new_context(**(settings | options))
        try:
            page = await context.new_page()
            visited = Visit(page)
            await page.add_init_script(NOTES)
            page.on("console", lambda told: told.type == "error" and visited.errors.append(told.text))
            page.on("pageerror", lambda error: visited.errors.append(str(error)))
            page.on(
                "websocket", lambda socket: socket.on("framesent", lambda sent: visited.sent.append(json.loads(sent)))
            )
            await page.goto(url)
            return await steps(visited), visited.errors
        finally:
            await context.close()

    result, errors = chromium.run(run(), seconds)
    assert not errors, errors
    return result


def write_microphone(path, *parts: float | str) -> str:
    """Write what a fake microphone hears, seconds of silence and recordings; return the flag of a browser with it."""
    rate = 24_000
    pieces = []
    for part in parts:
        if isinstance(part, str):
            samples, found = soundfile.read(part, dtype="float32")
            assert found == rate
            pieces.append(samples)
        else:
            pieces.append(np.zeros(round(part * rate), np.float32))
    soundfile.write(path, np.concatenate(pieces), rate, subtype="PCM_16")
    return f"--use-file-for-fake-audio-capture={path}%noloop"
