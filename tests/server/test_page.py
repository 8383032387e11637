"""The page: a spoken conversation in a real browser, and what happens when things go wrong."""

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import soundfile
from chromium import ALLOWED, MICROPHONE, REFUSED, Chromium, needs_chromium
from own_parts import QUESTION, Talker

from hfpipe.pipeline.engine import Engine

from .serving import running
from .visiting import visit, write_microphone

pytestmark = [pytest.mark.offline, pytest.mark.slow, needs_chromium]

KEY = "a-key-of-many-letters-0123456789"
LONG = " ".join(
    "La ciudad de París es la capital de Francia y está a orillas del río Sena, que la cruza de este a oeste."
    for _ in range(6)
)
SIZES = [(390, 844), (1280, 800)]
SCHEMES = ["light", "dark"]
VISIBLE = """() => {
  const focused = document.activeElement;
  const shown = focused.type === "radio" ? focused.parentElement : focused;
  return getComputedStyle(shown).outlineStyle !== "none";
}"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser whose microphone hears the example question each time that it is opened."""
    heard = write_microphone(tmp_path_factory.mktemp("microphone") / "question.wav", 0.5, QUESTION, 60)
    browser = Chromium(MICROPHONE, ALLOWED, heard, "--host-resolver-rules=MAP voz.test 127.0.0.1")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def served(offline_pipe, tmp_path_factory):
    """A server of the offline models."""
    with running(offline_pipe, tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture
def histories(monkeypatch):
    """The turns before each question that the language model was asked."""
    found, think = [], Engine.think

    def note(self, heard, request, *rest):
        found.append([turn["content"] for turn in request.history or []])
        return think(self, heard, request, *rest)

    monkeypatch.setattr(Engine, "think", note)
    return found


async def check_accessibility(page) -> None:
    from axe_playwright_python.async_playwright import Axe

    found = (await Axe().run(page)).response
    assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
    assert len(found["passes"]) > 15


def test_a_conversation_with_a_voice_in_writing_and_after_a_reload(chromium, served, histories):
    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await page.keyboard.down("Space")
        await visited.reaches("listening")
        await page.wait_for_timeout(3200)  # while the question is spoken
        await page.keyboard.up("Space")
        [answer] = await visited.answered(1)
        assert await visited.asked() == ["¿Cuál es la capital de Francia?"]
        assert "París" in answer
        assert max(peak for _, peak in await page.evaluate("loudness")) > 0.05
        stages = await page.locator(".times li").all_inner_texts()
        assert [re.sub(r" [\d,]+ s$", "", stage) for stage in stages] == ["Oír", "Pensar", "Hablar"]
        wav = await visited.download(page.get_by_role("button", name="Descargar WAV"))
        await page.get_by_role("button", name="Guardar").click()
        kept = await visited.download(page.get_by_role("button", name="JSON"))
        whole = await visited.download(page.get_by_role("button", name="Audio completo"))
        await page.keyboard.press("Escape")

        await visited.ask("¿Y la de Italia?")
        assert len(await visited.answered(2)) == 2
        await page.reload()
        await visited.reaches("ready")
        assert await visited.asked() == ["¿Cuál es la capital de Francia?", "¿Y la de Italia?"]
        visited.sent.clear()
        await visited.ask("¿Y la de Portugal?")
        answers = await visited.answered(3)
        await check_accessibility(page)
        return answers, wav.read_bytes(), json.loads(kept.read_text()), soundfile.info(whole).duration

    answers, wav, kept, seconds = visit(chromium, served.url, talk)
    with served.client() as client:
        said = client.audio.transcriptions.create(model="", file=("answer.wav", wav), language="es").text
    assert "París" in said and "Francia" in said
    assert [turn["text"] for turn in kept["turns"]] == ["¿Cuál es la capital de Francia?", answers[0]]
    assert 3 < seconds < 20 and kept["turns"][1]["times"]["heard"] > 0
    asked = ["¿Cuál es la capital de Francia?", answers[0], "¿Y la de Italia?", answers[1]]
    assert histories == [[], asked[:2], asked]


def test_speaking_interrupts_the_answer(chromium, served, offline_pipe, histories, monkeypatch):
    monkeypatch.setattr(offline_pipe, "llm", Talker(LONG))

    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await visited.ask("Háblame de París.")
        await visited.reaches("speaking")
        await page.get_by_text("Manos libres").click()
        await page.locator(".user").nth(1).wait_for()  # what the microphone hears is a turn of its own
        silence = await visited.silent_after("input_audio_buffer.speech_started")
        await page.locator(".assistant s").first.wait_for()
        heard = (await page.locator(".assistant .words").first.inner_text()).partition("sin oír")[0].strip()
        await page.locator(".assistant").nth(1).wait_for()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Pausar el micrófono").click()
        await visited.reaches("paused")
        return silence, heard, visited.sent_of("conversation.item.truncate")[0], await visited.asked()

    silence, heard, truncation, asked = visit(chromium, served.url, talk)
    assert silence < 200
    assert LONG.startswith(heard) and 0 < len(heard) < len(LONG) and truncation["audio_end_ms"] > 0
    assert asked[1] == "¿Cuál es la capital de Francia?"
    assert histories[1] == ["Háblame de París.", f"{heard}…"]


def test_a_key_interrupts_the_answer_and_the_next_one_comes(chromium, served, offline_pipe, histories, monkeypatch):
    monkeypatch.setattr(offline_pipe, "llm", Talker(LONG))

    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await visited.ask("Háblame de París.")
        await visited.reaches("speaking")
        await page.wait_for_timeout(1500)
        pressed = await page.evaluate("performance.now()")
        await page.keyboard.press("Escape")
        silence = await visited.silent_since(pressed)
        await page.locator(".assistant s").wait_for()
        assert await page.locator(".cut").inner_text() == "interrumpida"
        monkeypatch.setattr(offline_pipe, "llm", Talker("Así es."))
        await visited.ask("¿Seguro?")
        await page.get_by_text("Así es.").first.wait_for()
        await visited.reaches("ready")
        return silence, await page.locator(".assistant .words").first.inner_text()

    silence, words = visit(chromium, served.url, talk)
    assert silence < 200
    heard = words.partition("sin oír")[0].strip()
    assert histories[1] == ["Háblame de París.", f"{heard}…"] and 1 < len(heard.split()) < 20


def test_the_conversation_goes_on_after_the_server_was_restarted(chromium, offline_pipe, histories, tmp_path):
    port = free_port()
    stopped, restarted = threading.Event(), threading.Event()

    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await visited.ask("¿Cuál es la capital de Francia?")
        await visited.answered(1)
        stopped.set()
        await visited.reaches("waiting")
        await page.get_by_role("alert").filter(has_text="Se perdió la conexión").wait_for()
        await check_accessibility(page)
        restarted.wait(30)
        await visited.reaches("ready")
        assert await page.get_by_role("alert").filter(has_text="Se perdió").count() == 0
        await visited.ask("¿Y la de Italia?")
        answers = await visited.answered(2)
        visited.errors[:] = [error for error in visited.errors if "ERR_CONNECTION_REFUSED" not in error]
        return answers

    with ThreadPoolExecutor(1) as pool:
        with running(offline_pipe, tmp_path, port=port) as server:
            visiting = pool.submit(visit, chromium, server.url, talk)
            assert stopped.wait(60)
        with running(offline_pipe, tmp_path, port=port):
            restarted.set()
            answers = visiting.result(60)
    assert histories == [[], ["¿Cuál es la capital de Francia?", answers[0]]]


def test_a_server_that_is_full_is_waited_for(chromium, offline_pipe, tmp_path):
    async def talk(visited):
        await visited.reaches("ready")
        second = await visited.page.context.new_page()
        await second.goto(visited.page.url)
        await second.locator("#talk[data-state=busy]").wait_for()
        await second.get_by_role("alert").filter(has_text="demasiadas personas").wait_for()
        await visited.page.close()
        await second.locator("#talk[data-state=ready]").wait_for()

    with running(offline_pipe, tmp_path, max_sessions=1) as server:
        visit(chromium, server.url, talk)


def test_a_refused_microphone_says_what_to_do_and_typing_goes_on(served):
    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await page.get_by_role("button", name="Hablar", exact=True).click()
        notice = page.get_by_role("alert").filter(has_text="El micrófono está bloqueado")
        await notice.filter(has_text="permite el micrófono").wait_for()
        await check_accessibility(page)
        await visited.ask("¿Cuál es la capital de Francia?")
        [answer] = await visited.answered(1)
        assert "París" in answer and await notice.count() == 0

    browser = Chromium(MICROPHONE, REFUSED)
    try:
        visit(browser, served.url, talk)
    finally:
        browser.close()


def test_an_insecure_address_says_why_there_is_no_microphone_and_typing_goes_on(chromium, offline_pipe, tmp_path):
    port = free_port()
    address = f"http://voz.test:{port}"

    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        notice = page.get_by_role("alert").filter(has_text="Aquí el navegador no da el micrófono")
        await notice.filter(has_text=address).wait_for()
        await visited.ask("¿Cuál es la capital de Francia?")
        [answer] = await visited.answered(1)
        assert "París" in answer and max(peak for _, peak in await page.evaluate("loudness")) > 0.05
        visited.errors[:] = [error for error in visited.errors if "Cross-Origin-Opener-Policy" not in error]

    with running(offline_pipe, tmp_path, port=port, origins=(address,)):
        visit(chromium, address, talk)


def test_the_key_is_asked_for_and_kept_in_the_tab(chromium, offline_pipe, tmp_path):
    async def talk(visited):
        page = visited.page
        dialog = page.get_by_role("dialog", name="Clave de acceso")
        await dialog.wait_for()
        await check_accessibility(page)
        await dialog.get_by_label("Clave").fill("wrong")
        await page.keyboard.press("Enter")
        await dialog.get_by_text("Esa clave no es válida.").wait_for()
        await dialog.get_by_label("Clave").fill(KEY)
        await page.keyboard.press("Enter")
        await visited.reaches("ready")
        await visited.ask("¿Cuál es la capital de Francia?")
        assert "París" in (await visited.answered(1))[0]
        await page.reload()
        await visited.reaches("ready")
        assert KEY not in await page.evaluate("JSON.stringify(localStorage)")
        visited.errors[:] = [error for error in visited.errors if "401" not in error]

    with running(offline_pipe, tmp_path, api_key=KEY) as server:
        visit(chromium, server.url, talk)


def test_a_voice_is_added_with_consent_and_heard_beside_the_base_voice(chromium, served):
    async def talk(visited):
        page = visited.page
        await visited.reaches("ready")
        await page.get_by_role("button", name="Añadir una voz").click()
        dialog = page.get_by_role("dialog", name="Añadir una voz")
        await check_accessibility(page)
        await dialog.get_by_label("Nombre de la voz").fill("Rosa")
        await dialog.get_by_label("Subir un archivo").set_input_files(QUESTION.replace("pregunta", "voz"))
        await dialog.get_by_label("Quién da su consentimiento").fill("nobody: a synthetic voice")
        await dialog.get_by_role("button", name="Guardar la voz").click()
        assert await dialog.is_visible()  # without the box that says so, nothing is sent
        await dialog.get_by_role("checkbox").check()
        await dialog.get_by_role("button", name="Guardar la voz").click()
        await dialog.wait_for(state="hidden")
        assert await page.get_by_role("combobox", name="Voz").input_value() == "Rosa"
        await visited.ask("¿Cuál es la capital de Francia?")
        await visited.answered(1)
        for name in ("Oír: Rosa", "Oír con la voz base"):
            await page.get_by_role("button", name=name).click()
            await visited.reaches("speaking")
            await visited.reaches("ready")
        await page.get_by_role("button", name="Añadir una voz").click()
        await dialog.get_by_role("button", name="Borrar la voz Rosa").click()
        await dialog.get_by_text("Voces guardadas").wait_for(state="hidden")
        await dialog.get_by_role("button", name="Cerrar").click()
        assert await page.get_by_role("combobox", name="Voz").input_value() == "default"
        return [event["session"]["audio"]["output"]["voice"] for event in visited.sent_of("session.update")]

    assert visit(chromium, served.url, talk) == ["default", "Rosa", "default"]
    assert not [voice for voice in httpx.get(f"{served.url}/v1/audio/voices").json()["data"] if voice["saved"]]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width, height", SIZES)
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(chromium, served, width, height, scheme, tmp_path):
    async def look(visited):
        page = visited.page
        await visited.reaches("ready")
        await check_accessibility(page)
        await page.screenshot(path=tmp_path / "before.png")
        await page.get_by_role("button", name="capital de Francia").click()
        await visited.answered(1)
        await check_accessibility(page)
        await page.screenshot(path=tmp_path / "after.png")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        red, green, blue = map(int, re.findall(r"\d+", background))
        assert (max(red, green, blue) < 60) == (scheme == "dark")

    options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "has_touch": width < 500}
    visit(chromium, served.url, look, **options)
    for name in ("before.png", "after.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_a_thumb_talks_and_the_tab_key_reaches_everything_in_order(chromium, served):
    async def thumb(visited):
        talk = visited.page.get_by_role("button", name="Hablar", exact=True)
        await visited.reaches("ready")
        await talk.tap()
        await visited.reaches("listening")
        await visited.page.wait_for_timeout(3200)
        await visited.page.get_by_role("button", name="Terminar y enviar").tap()
        assert "París" in (await visited.answered(1))[0]

    visit(chromium, served.url, thumb, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)

    async def tab(visited):
        page = visited.page
        await visited.reaches("ready")
        reached = []
        for _ in range(13):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            )
            assert await page.evaluate(VISIBLE)
        await page.get_by_role("button", name="English").click()
        await page.get_by_role("heading", name="What shall we talk about?").wait_for()
        assert await page.evaluate("document.documentElement.lang") == "en"
        await check_accessibility(page)
        return reached

    reached = visit(chromium, served.url, tab)
    assert reached[:4] == ["page-language", "fresh", "save", "talk"] and reached[-2:] == ["question", ""]
    assert {"language", "voice", "add-voice"} < set(reached)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
