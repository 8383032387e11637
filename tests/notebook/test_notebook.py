"""A recording in a notebook is written as a WAV file, whole or not at all, and leaves nothing in the page."""

import base64
import importlib.util
import re
import sys
import types

import numpy as np
import pytest
import soundfile
from chromium import ALLOWED, FAST_MICROPHONE, KEEPS, LEFT, MICROPHONE, REFUSED, Chromium, needs_chromium

from hfpipe.notebook import recorder as notebook
from hfpipe.notebook.recorder import record

needs_jupyter = pytest.mark.skipif(importlib.util.find_spec("ipykernel") is None, reason="ipykernel isn't installed")


def tone(seconds, rate):
    return 0.3 * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * 440 / rate)


def seconds_of_tone(path) -> float:
    """Check the format of a recording of a 440 Hz tone, and return its duration in seconds."""
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 16_000, 1)
    samples, rate = soundfile.read(path)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(samples), 1 / rate) - 440) < 10
    assert power[near].sum() > 0.9 * power.sum()
    return len(samples) / rate


@pytest.fixture
def in_colab(monkeypatch):
    """Install a `google.colab` with the test's own `output.eval_js`."""

    def in_colab(eval_js):
        colab = types.ModuleType("google.colab")
        colab.output = types.SimpleNamespace(eval_js=eval_js)
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
        monkeypatch.setitem(sys.modules, "google.colab", colab)

    return in_colab


@pytest.fixture
def answering(in_colab):
    """Simulate a Colab page that returns a result and chunks of samples; return the list of scripts sent to it."""

    def answering(result, samples=()):
        pieces = [base64.b64encode(np.asarray(piece, "<i2").tobytes()).decode() for piece in samples]
        sent = []

        def eval_js(script, ignore_result=False):
            sent.append(script)
            wanted = re.fullmatch(r"hfpipeRecorder\.piece\((\d+)\)", script)
            return pieces[int(wanted[1])] if wanted else None if ignore_result else result | {"pieces": len(pieces)}

        in_colab(eval_js)
        return sent

    return answering


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_what_the_page_sends_is_written_at_16_khz(answering, tmp_path, rate):
    samples = np.round(tone(2, rate) * 32768)
    answering({"rate": rate}, np.array_split(samples, 3))
    path = record(tmp_path / "pregunta.wav")
    assert path == tmp_path / "pregunta.wav" and seconds_of_tone(path) == 2.0
    assert np.abs(soundfile.read(path)[0]).max() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("name, kind, words", [
    ("NotAllowedError", PermissionError, "Allow it for this page"),
    ("NotFoundError", RuntimeError, "sees no microphone"),
    ("NotReadableError", RuntimeError, "another program"),
    ("SecurityError", RuntimeError, "https or localhost"),
    ("Cancelled", RuntimeError, "cancelled"),
    ("TypeError", RuntimeError, "TypeError, x is no function"),
])  # fmt: skip
def test_a_problem_of_the_page_says_what_to_do_and_leaves_files_alone(answering, tmp_path, name, kind, words):
    (tmp_path / "a.wav").write_text("an earlier recording")
    answering({"error": name, "message": "x is no function"})
    with pytest.raises(kind, match=f"{words}.*upload an audio file"):
        record(tmp_path / "a.wav")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["an earlier recording"]


@pytest.mark.parametrize("samples", [(), (np.zeros(4_000),)])
def test_nothing_recorded_is_said(answering, tmp_path, samples):
    answering({"rate": 48_000}, samples)
    with pytest.raises(RuntimeError, match="nothing was recorded.*muted"):
        record(tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given, kind, words", [
    ({"path": "nowhere/a.wav"}, FileNotFoundError, "no folder nowhere"),
    ({"max_seconds": 0}, ValueError, "max_seconds is 0"),
    ({"max_seconds": float("inf")}, ValueError, "max_seconds is inf"),
    ({"silence": -1}, ValueError, "silence is -1"),
    ({"silence": float("nan")}, ValueError, "silence is nan"),
])  # fmt: skip
def test_what_can_not_be_is_refused_before_anybody_speaks(answering, given, kind, words):
    sent = answering({"rate": 48_000}, [tone(1, 48_000)])
    with pytest.raises(kind, match=words):
        record(**given)
    assert sent == []


def test_plain_python_is_told_to_record_elsewhere(tmp_path):
    with pytest.raises(RuntimeError, match="needs a notebook.*plain Python.*give the file's path"):
        record(tmp_path / "a.wav")


@needs_jupyter
@pytest.mark.parametrize("missing, words", [("anywidget", "anywidget"), (None, "ipykernel 6")])
def test_jupyter_without_the_extra_is_told_what_to_install(monkeypatch, tmp_path, missing, words):
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{words}.*pip install 'hfpipe\[notebook\]'"):
        record(tmp_path / "a.wav")


@pytest.mark.slow
@needs_jupyter
def test_a_kernel_without_a_page_is_not_waited_for_without_end(tmp_path):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=tmp_path)
    try:
        code = f"""
            import sys; sys.path.insert(0, {str(notebook.RECORDER.parents[1])!r})
            from hfpipe.notebook import recorder as notebook
            notebook.SHOWN_WITHIN = 0.5
            notebook.record("a.wav")"""
        reply = client.execute_interactive(
            code.replace("\n            ", "\n"), timeout=60, output_hook=lambda _: None
        )
        assert "showed no recorder in" in reply["content"]["evalue"]
        assert not (tmp_path / "a.wav").exists()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Return a browser with microphone permission, whose microphone records a tone of 440 Hz."""
    heard = tmp_path_factory.mktemp("microphone") / "tone.wav"
    soundfile.write(heard, tone(10, 48_000), 48_000)
    browser = Chromium(MICROPHONE, ALLOWED, f"--use-file-for-fake-audio-capture={heard}")
    yield browser
    browser.close()


@pytest.fixture
def colab_page(in_colab):
    """Open a page that stands in for Colab's output frame, in which `eval_js` runs scripts."""

    def colab_page(browser, script=KEEPS):
        page = browser.page(script)
        in_colab(lambda script, ignore_result=False: browser.run(page.evaluate(script)))
        return page

    return colab_page


async def press(page, *labels, after=r"^\d"):
    """Press buttons one after another, each when it is enabled, and "Parar" when the clock matches `after`."""
    for label in labels:
        button = page.get_by_role("button", name=label)
        await button.wait_for()
        if label == "Parar":
            await page.get_by_text(re.compile(after)).wait_for()
        await button.click()


@pytest.mark.slow
@needs_chromium
def test_five_recordings_in_a_row_leave_nothing_in_the_page(chromium, colab_page, tmp_path):
    page = colab_page(chromium)
    for number in range(5):
        pressed = chromium.begin(press(page, "Grabar", "Parar", after=r"^1,\d s$"))
        path = record(tmp_path / f"{number}.wav")
        pressed.result(1)
        assert 1.0 <= seconds_of_tone(path) < 3.0
        assert chromium.run(page.evaluate(LEFT)) == {"opened": number + 1, "left": []}


@pytest.mark.slow
@needs_chromium
def test_a_recording_stops_by_itself_at_its_longest(chromium, colab_page, tmp_path):
    page = colab_page(chromium)
    pressed = chromium.begin(press(page, "Grabar"))
    assert seconds_of_tone(record(tmp_path / "a.wav", max_seconds=0.75)) == 0.75
    pressed.result(1)
    assert chromium.run(page.evaluate(LEFT))["left"] == []


@pytest.mark.slow
@needs_chromium
def test_two_minutes_come_whole(chromium, colab_page, tmp_path):
    page = colab_page(chromium, FAST_MICROPHONE % [[0, 0.3]])
    pressed = chromium.begin(press(page, "Grabar"))
    assert seconds_of_tone(record(tmp_path / "a.wav")) == 120.0
    pressed.result(1)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("room", [0.0001, 0.02])  # a quiet room and a noisy one
def test_silence_after_speech_ends_a_recording(chromium, colab_page, tmp_path, room):
    loudness = [[0, 0.005], [0.5, room], [2, 0.5], [3, room], [3.5, 0.2], [4, room]]  # a faint sound isn't speech
    page = colab_page(chromium, FAST_MICROPHONE % loudness)
    pressed = chromium.begin(press(page, "Grabar"))
    path = record(tmp_path / "a.wav", silence=0.8, max_seconds=60)
    pressed.result(1)
    assert 4.8 <= seconds_of_tone(path) < 4.9
    assert np.abs(soundfile.read(path)[0][-12_000:]).max() < 0.03  # the tail of the tone has ended


@pytest.mark.slow
@needs_chromium
def test_a_later_recording_takes_the_place_of_an_earlier_one(chromium, colab_page, tmp_path):
    page = colab_page(chromium)

    async def start_twice():
        url = "URL.createObjectURL(new Blob([source], { type: 'text/javascript' }))"
        start = f"async (source) => (await import({url})).recordInColab({{ max_seconds: 9, silence: null }})"
        source = notebook.RECORDER.read_text(encoding="utf-8")
        first = chromium.begin(page.evaluate(start, source))
        await press(page, "Grabar")
        await page.get_by_role("button", name="Parar").wait_for()
        second = chromium.begin(page.evaluate(start, source))
        await page.get_by_role("button", name="Grabar").wait_for()
        faces = await page.locator(".hfpipe-recorder").count()
        await press(page, "Grabar")
        await page.get_by_role("button", name="Parar").wait_for()
        await page.wait_for_timeout(1000)  # so that a busy machine, too, has recorded something
        await press(page, "Parar")
        return first, second, faces

    first, second, faces = chromium.run(start_twice())
    assert first.result(5)["error"] == "Cancelled" and faces == 1
    assert second.result(5)["pieces"] == 1
    chromium.run(page.evaluate("hfpipeRecorder.cancel()"))
    assert chromium.run(page.evaluate(LEFT)) == {"opened": 2, "left": []}


@pytest.mark.slow
@needs_chromium
def test_an_interrupted_cell_frees_the_microphone(chromium, in_colab, tmp_path):
    page = chromium.page(KEEPS)

    def eval_js(script, ignore_result=False):
        if ignore_result:
            return chromium.run(page.evaluate(script))
        chromium.begin(page.evaluate(script))
        chromium.run(press(page, "Grabar"))
        chromium.run(page.get_by_role("button", name="Parar").wait_for())
        raise KeyboardInterrupt

    in_colab(eval_js)
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "a.wav")
    assert chromium.run(page.evaluate(LEFT)) == {"opened": 1, "left": []}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_chromium
def test_a_refused_microphone_is_an_error_and_leaves_nothing(colab_page, tmp_path):
    browser = Chromium(MICROPHONE, REFUSED)
    try:
        page = colab_page(browser)
        pressed = browser.begin(press(page, "Grabar"))
        with pytest.raises(PermissionError, match="Allow it for this page"):
            record(tmp_path / "a.wav")
        pressed.result(1)
        assert browser.run(page.evaluate(LEFT))["left"] == []
    finally:
        browser.close()
