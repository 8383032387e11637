"""A listening test: its page in a real Chromium, and the analysis of answers whose true values are known."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from chromium import Chromium, needs_chromium

from finetune.voice.listening import LEVEL, make_listening_test
from finetune.voice.listening_results import analyze_listening, results_markdown

RATE = 16_000
NAMES = [f"{number:04d}" for number in range(6)]


def sound(folder, name, pitch, seconds=0.3, loud=0.2):
    folder.mkdir(exist_ok=True)
    wave = loud * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)
    soundfile.write(folder / f"{name}.wav", wave, RATE)


@pytest.fixture
def folders(tmp_path):
    for number, name in enumerate(NAMES):
        sound(tmp_path / "base", name, 200 + number, loud=0.05)
        sound(tmp_path / "model", name, 300 + number, loud=0.5)
    return tmp_path / "base", tmp_path / "model"


@pytest.fixture
def test(folders, tmp_path):
    return tmp_path / "test", make_listening_test(*folders, tmp_path / "test", seed=0)


def answers_of(key, listener, rate, compare, seconds=1.5, damaged=1, worse=-3):
    """Answers everything: `rate(side, name)` a recording, `compare(name)` b against a."""
    answers = []
    for name, item in key["items"].items():
        if item["kind"] == "opinion":
            score = damaged if item["sides"] == ["anchor"] else rate(item["sides"][0], item["name"])
        else:
            side = "anchor" if "anchor" in item["sides"] else "b"
            score = worse if side == "anchor" else compare(item["name"])
            score = score if item["sides"][1] == side else -score
        answers.append({"item": name, "score": score, "seconds": seconds * item["seconds"], "plays": [1]})
    return {"test": key["test"], "listener": listener, "answers": answers}


def send(folder, *all_answers):
    for number, answers in enumerate(all_answers):
        (folder / "answers" / f"{number}.json").write_text(json.dumps(answers))


def test_sounds_are_hidden_and_equally_loud(test, folders):
    folder, key = test
    sounds = sorted((folder / "page" / "audio").iterdir())
    assert len(sounds) == 6 * 2 + 3
    for file in sounds:
        samples = soundfile.read(file)[0]
        assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(LEVEL, abs=0.1)
    page = (folder / "page" / "index.html").read_text()
    shown = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    assert shown["id"] == key["test"] and [*key["items"]] == [item["id"] for item in shown["items"]]
    assert all(item.keys() == {"id", "sounds"} for item in shown["items"])
    kinds = [item["kind"] for item in key["items"].values()]
    assert (kinds.count("pair"), kinds.count("opinion")) == (6 + 3, 12 + 3)
    assert {tuple(item["sides"]) for item in key["items"].values() if "b" in item["sides"]} == {
        ("b",),
        ("a", "b"),
        ("b", "a"),
    }
    assert make_listening_test(*folders, folder.parent / "again", seed=0) == key
    assert make_listening_test(*folders, folder.parent / "other")["test"] != key["test"]


def test_folders_that_cannot_be_compared(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_listening_test(folders[0], tmp_path / "none", tmp_path / "out")
    sound(tmp_path / "alone", "another", 200)
    with pytest.raises(ValueError, match="same name"):
        make_listening_test(folders[0], tmp_path / "alone", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="has files in it"):
        make_listening_test(*folders, folders[0])
    shutil.copy(tmp_path / "alone" / "another.wav", folders[0])
    with pytest.warns(UserWarning, match="1 recordings are in one folder alone"):
        make_listening_test(*folders, tmp_path / "out")


def test_known_answers_give_their_means(test):
    folder, key = test
    everyone = [
        answers_of(key, f"l{i}", lambda side, name: {"a": 3, "b": 4}[side], lambda name: 1 + int(name) % 2)
        for i in range(4)
    ]
    send(folder, *everyone)
    results = analyze_listening(folder)
    assert results["listeners"] == 4 and not results["left_out"]
    assert [results["mos"][side]["value"] for side in ("a", "b", "anchor")] == [3, 4, 1]
    assert results["cmos"]["value"] == pytest.approx(1.5) and 1 <= results["cmos"]["low"] < 1.5
    assert results["preference"]["b"] == {"value": 100, "low": 100, "high": 100}
    assert results["agreement"] == {"pairs": 1, "opinions": 1}
    assert "model is better than base" in results["verdict"]
    assert "model is better than base" in (folder / "results.md").read_text() == results_markdown(results)
    assert json.loads((folder / "results.json").read_text()) == results


def test_chance_is_no_better_and_agrees_on_nothing(test):
    folder, key = test
    rng = np.random.default_rng(0)
    draw = lambda low, high: lambda *_: int(rng.integers(low, high))  # noqa: E731
    send(folder, *(answers_of(key, f"l{i}", draw(1, 6), draw(-3, 4)) for i in range(12)))
    results = analyze_listening(folder)
    assert "no better" in results["verdict"]
    assert results["cmos"]["low"] < 0 < results["cmos"]["high"]
    assert all(abs(alpha) < 0.2 for alpha in results["agreement"].values())


def test_the_interval_holds_the_truth_as_often_as_it_says(tmp_path):
    """Of listeners and items drawn anew with a known mean, some 95 % of the intervals hold it."""
    from finetune.voice.listening_results import _mean

    rng, held = np.random.default_rng(0), 0
    for trial in range(60):
        listeners, items = rng.normal(0, 0.7, (20, 1)), rng.normal(0, 0.7, (1, 20))
        found = _mean(1 + listeners + items + rng.normal(0, 1, (20, 20)), seed=trial)
        held += found["low"] <= 1 <= found["high"]
    assert held >= 52


def test_those_who_did_not_listen_are_named_and_left_out(test):
    folder, key = test
    good = [answers_of(key, f"good{i}", lambda side, name: 3 + int(name) % 2, lambda name: 1) for i in range(3)]
    fast = answers_of(key, "fast", lambda side, _: 3, lambda name: -int(name) % 3, seconds=0.2)
    deaf = answers_of(key, "deaf", lambda side, _: 3, lambda name: -int(name) % 3, damaged=5, worse=2)
    same = answers_of(key, "same", lambda side, _: 1, lambda name: -1, worse=-1)
    send(folder, *good, fast, deaf, same)
    results = analyze_listening(folder)
    assert results["listeners"] == 3
    assert set(results["left_out"]) == {"fast", "deaf", "same"}
    assert "20% of the sounds' duration" in results["left_out"]["fast"][0]
    assert results["left_out"]["deaf"] == ["missed 6 of 6 anchors"]
    assert results["left_out"]["same"] == ["gave 1 to each opinion"]
    assert results["cmos"]["value"] > results["cmos_of_all"]["value"]
    assert "fast: answered after 20%" in (folder / "results.md").read_text()


def test_answers_may_be_few_or_sent_twice(test):
    folder, key = test
    whole = answers_of(key, "l0", lambda side, _: 3, lambda name: int(name) % 3)
    send(folder, {**whole, "answers": whole["answers"][:2]}, whole)
    assert analyze_listening(folder)["answers"] == len(key["items"])
    opinions = [each for each in whole["answers"] if key["items"][each["item"]]["kind"] == "opinion"]
    (folder / "answers" / "1.json").unlink()
    send(folder, {**whole, "answers": opinions})
    results = analyze_listening(folder)
    assert results["cmos"] is None and "Nobody compared" in results["verdict"]
    assert results["agreement"] == {"pairs": None, "opinions": None}


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda answers: "{", "Expecting"),
        (lambda answers: [], "isn't answers"),
        (lambda answers: {**answers, "test": "other"}, "to the test 'other'"),
        (lambda answers: {**answers, "answers": []}, "no answers in it"),
        (lambda answers: {**answers, "answers": [{**answers["answers"][0], "score": 9}]}, "is 9"),
        (lambda answers: {**answers, "answers": [{**answers["answers"][0], "item": "x"}]}, "no item 'x'"),
        (lambda answers: {**answers, "answers": [{**answers["answers"][0], "seconds": -1}]}, "took -1"),
        (lambda answers: {key: value for key, value in answers.items() if key != "listener"}, "listener"),
    ],
)
def test_files_that_are_not_answers_are_named(test, damage, said):
    folder, key = test
    damaged = damage(answers_of(key, "l0", lambda *_: 3, lambda *_: 0))
    (folder / "answers" / "bad.json").write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(ValueError, match=f"bad.json isn't answers to this test.*{said}|{said}.*Take it out"):
        analyze_listening(folder)
    assert not (folder / "results.json").exists()


def test_folders_without_answers(test, tmp_path):
    with pytest.raises(FileNotFoundError, match="no answers"):
        analyze_listening(test[0])
    with pytest.raises(FileNotFoundError, match="no key.json"):
        analyze_listening(tmp_path)


@needs_chromium
@pytest.mark.slow
class TestPage:
    @pytest.fixture(scope="class")
    def chromium(self):
        browser = Chromium("--autoplay-policy=no-user-gesture-required", "--mute-audio")
        yield browser
        browser.close()

    def test_a_listener_answers_by_keyboard_and_the_file_is_analyzed(self, chromium, folders, tmp_path):
        for name in NAMES[3:]:
            (folders[0] / f"{name}.wav").unlink()
            (folders[1] / f"{name}.wav").unlink()
        folder, key = tmp_path / "test", make_listening_test(*folders, tmp_path / "test", seed=0)
        file = chromium.run(self._take(chromium.browser, folder), timeout=120)
        answers = json.loads(file)
        assert len(answers["answers"]) == len(key["items"]) == len({each["item"] for each in answers["answers"]})
        assert answers["country"] == "México" and answers["headphones"] is True
        assert all(each["seconds"] > 0 and min(each["plays"]) >= 1 for each in answers["answers"])
        (folder / "answers" / "sent.json").write_text(file)
        results = analyze_listening(folder)  # whatever the order in which the page asked and showed
        assert [results["mos"][side]["value"] for side in ("a", "b", "anchor")] == [2, 4, 1]
        assert results["cmos"] == {"value": 2, "low": 2, "high": 2}
        assert {True, False} == {each["swapped"] for each in answers["answers"]}

    async def _take(self, browser, folder):
        from axe_playwright_python.async_playwright import Axe

        context = await browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
        page = await context.new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "blob:")) or problems.append(request.url))
        await page.goto((folder / "page" / "index.html").as_uri())
        await self._check(page, Axe)
        await page.locator("#country").fill("México")
        await page.locator("#headphones").press("Space")
        await page.locator("#start button").press("Enter")
        key = json.loads((folder / "key.json").read_text())
        sides = {
            s: side for item in key["items"].values() for s, side in zip(item["sounds"], item["sides"], strict=True)
        }
        for number in range(len(key["items"])):
            if number in (0, 6):  # a pair, an opinion
                await self._check(page, Axe)
            if number == 3:  # what was answered is kept, and goes on where it was
                await page.reload()
            await self._answer(page, number, sides)
        await page.locator("#end h1").wait_for()
        await self._check(page, Axe)
        async with page.expect_download() as download:
            await page.locator("#download").press("Enter")
        content = open(await (await download.value).path(), encoding="utf-8").read()
        assert not problems, problems
        await context.close()
        return content

    async def _answer(self, page, number, sides):
        position = await page.locator("#position").text_content()
        assert position.startswith(f"{number + 1} "), position
        assert not await page.locator("#choices :checked").count()
        if number == 0:  # refused until everything is heard and chosen
            await page.locator("#answer button").press("Enter")
            assert "Sonido A, Sonido B" in await page.locator("#missing").text_content()
        for audio in await page.locator("audio").all():
            await audio.evaluate("(audio) => new Promise((done) => { audio.onended = done; audio.play(); })")
        if number == 0:
            await page.locator("#answer button").press("Enter")
            assert "elegir" in await page.locator("#missing").text_content()
            await page.locator("#language").press("Enter")  # what was heard stays heard
            assert await page.locator(".sound[data-heard] span").all_text_contents() == ["heard", "heard"]
            await page.locator("#language").press("Enter")
        heard = [await audio.get_attribute("src") for audio in await page.locator("audio").all()]
        heard = [sides[source.removeprefix("audio/").removesuffix(".wav")] for source in heard]
        quality = {"a": 2, "b": 4, "anchor": 1}  # opinions; their differences are the comparisons
        score = quality[heard[0]] if len(heard) == 1 else quality[heard[1]] - quality[heard[0]]
        await page.locator(f"input[name=score][value='{score}']").press("Space")
        await page.locator("#answer button").press("Enter")

    async def _check(self, page, axe):
        """Checks a screen as it is: accessible in both schemes, and no wider than a phone."""
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            found = (await axe().run(page)).response["violations"]
            assert not found, [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
