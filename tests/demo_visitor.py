"""Somebody who visits the demo with a browser of their own."""

import base64
import io

import soundfile
from own_parts import wait_until

# Notes what the page plays, the seconds and the loudest sample of each sound, and how many of these it stops.
NOTES = """
globalThis.played = [];
globalThis.stopped = 0;
const { start, stop } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (...when) {
  const loudest = this.buffer.getChannelData(0).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  played.push([this.buffer.duration, loudest]);
  return start.apply(this, when);
};
AudioBufferSourceNode.prototype.stop = function () {
  stopped++;
  return stop.apply(this);
};
"""
TURN = "[data-testid=user], [data-testid=bot]"


class Visitor:
    """A browser at the demo. `complaints` are the errors on its console."""

    def __init__(self, chromium, url: str, locale: str = "es-ES"):
        self.chromium, self.complaints = chromium, []
        chromium.run(self._open(url, locale))

    async def _open(self, url, locale):
        self.context = await self.chromium.browser.new_context(locale=locale)
        self.page = await self.context.new_page()
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await self.page.add_init_script(NOTES)
        await self.page.goto(url)
        await self.page.locator("button.primary").wait_for()

    def leave(self):
        self.chromium.run(self.context.close())

    def press(self, name: str):
        self.chromium.run(self.page.get_by_role("button", name=name, exact=True).click())

    def unfold(self, title: str):
        self.chromium.run(self.page.get_by_text(title).click())

    def tick(self, label: str):
        self.chromium.run(self.page.get_by_label(label).check())

    def upload(self, path, label: str):
        """Chooses a file for the recording with a label."""

        async def choose():
            block = self.block(label)
            await block.get_by_role("button", name="Upload file").click()
            await block.locator("input[type=file]").set_input_files(str(path))

        self.chromium.run(choose())
        self.wait_for_recording(label)

    def wait_for_recording(self, label: str):
        """Waits until the recording with a label shows how long it lasts."""
        self.chromium.run(self.block(label).locator("time").first.wait_for())

    def block(self, label: str):
        return self.page.locator(".block", has=self.page.locator(f"[data-testid=block-label]:has-text('{label}')"))

    def texts(self, selector: str = TURN) -> list[str]:
        """Returns the texts of elements that are seen; of the turns, by default."""
        return [text.strip() for text in self.chromium.run(self.page.locator(selector).all_inner_texts())]

    def has_turns(self, count: int, seconds: float = 30) -> bool:
        """Waits until so many turns are answered whole, and returns whether they were."""
        return wait_until(lambda: len(self.texts()) == count and self.texts(".bars > span"), seconds)

    def notices(self) -> list[str]:
        return [text.split("\n")[-1] for text in self.texts(".toast-body")]

    @property
    def played(self) -> list[list[float]]:
        return self.chromium.run(self.page.evaluate("played"))

    @property
    def stopped(self) -> int:
        return self.chromium.run(self.page.evaluate("stopped"))

    def voices(self) -> dict[str, tuple]:
        """Returns what the page keeps of an answer: samples and their rate in Hz by the name of the voice."""
        names = self.texts("figcaption")
        wavs = self.chromium.run(self.page.locator("figure audio").evaluate_all("all => all.map((each) => each.src)"))
        return {name: read_wav(wav) for name, wav in zip(names, wavs, strict=True)}


def read_wav(url: str):
    return soundfile.read(io.BytesIO(base64.b64decode(url.removeprefix("data:audio/wav;base64,"))), dtype="float32")
