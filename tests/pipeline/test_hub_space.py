"""Make a Space of a repo on a Hub that listens on loopback, and run what was pushed, in a browser."""

import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import soundfile
from chromium import Chromium, needs_chromium
from conftest import EXAMPLES
from demo_visitor import Visitor
from huggingface_hub import ModelCard, SpaceCard
from loopback_hub import LoopbackHub, child_environment, point_client_at
from own_parts import QUESTION, wait_until

import hfpipe
from hfpipe.pipeline import hub_space

ANA = "hf_ana"
PIPELINE = Path(hub_space.__file__).parent
WITHOUT_HFPIPE = "import sys, runpy; sys.modules['hfpipe'] = None; runpy.run_path('app.py', run_name='__main__')"

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path / "cache"))
    with LoopbackHub(tokens={ANA: "ana"}) as hub, point_client_at(hub.url, tmp_path / "home"):
        yield hub


@pytest.fixture
def pipe(tiny_whisper, tiny_chat, tiny_vits):
    return hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_vits), device="cpu", token=ANA)


def test_a_space_shows_the_commit_that_was_pushed_with_it(hub, pipe, tmp_path):
    pushed = pipe.push_to_hub("qa", private=True, space=True)
    model, space = hub.repos["ana/qa"], hub.repos["spaces/ana/qa"]
    assert model.private and space.private
    files = space.find("main").files
    assert files.keys() - {".gitattributes"} == {
        *("README.md", "app.py", "examples/question.wav", "packages.txt", "requirements.txt", *hub_space.DEMO)
    }
    card = SpaceCard(files["README.md"].decode())
    card.validate(repo_type="space")
    about = card.data
    assert (about.sdk, about.sdk_version, about.app_file) == ("gradio", version("gradio"), "app.py")
    assert about.models == ["ana/qa"] and about.python_version == "{}.{}".format(*sys.version_info)
    assert about.license == ModelCard(model.find("main").files["README.md"].decode()).data.license
    needed = model.find("main").files["requirements.txt"].decode()
    assert files["requirements.txt"].decode() == needed + f"gradio=={version('gradio')}\n"
    assert all(files[name] == (PIPELINE / name).read_bytes() for name in hub_space.DEMO)
    assert f'model="ana/qa", revision="{pushed.oid}", trust_remote_code=True' in files["app.py"].decode()
    assert not any(ANA.encode() in data for data in files.values())
    write(files, tmp_path / "space")
    assert soundfile.info(tmp_path / "space" / "examples" / "question.wav").frames > 0

    pipe.defaults = pipe.defaults.updated(max_new_tokens=3)
    model.commit({"notes.txt": b"mine", "voice_qa.py": b"old"})
    again = pipe.push_to_hub("qa", space=True, commit_message="Again")
    assert again.oid != pushed.oid and f'revision="{again.oid}"' in space.find("main").files["app.py"].decode()
    assert space.find("main").title == "Again"


def test_a_space_is_made_of_what_is_in_the_repo_with_the_demo_at_hand(hub, pipe, monkeypatch):
    with pytest.raises(ValueError, match="pull request isn't part of the repo"):
        pipe.push_to_hub("qa", space=True, create_pr=True)
    monkeypatch.setattr(hub_space, "DEMO", ("space_missing.py",))
    with pytest.raises(ImportError, match="doesn't carry the demo .space_missing.py.*hfpipe.load"):
        pipe.push_to_hub("qa", space=True)
    assert not hub.repos


def write(files, folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@contextmanager
def started(folder: Path, environment: dict[str, str]):
    """Runs a Space's app in a process of its own, without hfpipe, until Ctrl-C; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**environment, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    with open(folder.parent / "log.txt", "w") as log:
        command = [sys.executable, "-c", WITHOUT_HFPIPE]
        app = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}/"
        try:
            assert wait_until(lambda: app.poll() is not None or answers(url), 90)
            assert app.poll() is None, (folder.parent / "log.txt").read_text()
            yield url
            app.send_signal(signal.SIGINT)
            app.wait(20)
        finally:
            app.kill()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url).status == 200
    except OSError:
        return False


@needs_chromium
def test_a_pushed_space_answers_in_a_browser_without_hfpipe(hub, pipe, tmp_path):
    pipe.push_to_hub("qa", space=True)
    write(hub.repos["spaces/ana/qa"].find("main").files, tmp_path / "space")
    environment = child_environment(hub.url, tmp_path / "their") | {"GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    environment.pop("PYTHONPATH", None)
    browser = Chromium()
    try:
        with started(tmp_path / "space", environment) as url:
            first, second = Visitor(browser, url), Visitor(browser, url, locale="en-US")
            first.upload(QUESTION, "Tu pregunta")
            first.press("Preguntar")
            assert second.texts(".gallery-item") == ["question.wav"]
            second.upload(EXAMPLES / "voz.wav", "Your question")
            second.press("Ask")
            assert first.has_turns(2, 60) and second.has_turns(2, 60)
            first.press("Preguntar")
            assert first.has_turns(4, 60)
            assert len(second.texts()) == 2, "the other's conversation is the other's"
            for visitor in (first, second):
                assert all(visitor.texts())
                assert visitor.played and all(loudest > 0 for _, loudest in visitor.played)
                assert not visitor.complaints
    finally:
        browser.close()
