"""The files that the page is made of: what they load, who gets them, and their texts."""

import re

import httpx
import pytest

from hfpipe.server import page_api

from .serving import running

KEY = "a-key-of-many-letters-0123456789"


def files() -> dict[str, str]:
    return {name: file.read_text(encoding="utf-8") for name, file in page_api.FILES.items()}


def test_the_page_is_served_under_a_strict_policy(server):
    for path in sorted(page_api.PATHS):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert httpx.get(f"{server.url}/").headers["content-type"] == "text/html; charset=utf-8"
    assert httpx.get(f"{server.url}/page/main.js").headers["content-type"].startswith("text/javascript")


def test_the_page_needs_nothing_from_elsewhere_and_has_all_that_it_names(server):
    for name, content in files().items():
        addresses = set(re.findall(r"https?://[\w.]+", content)) - {"http://www.w3.org", "http://localhost"}
        assert not addresses, name
    named = re.findall(r'(?:href|src)="(page/[^"]+)"', files()["index.html"])
    named += [f"page/{name}" for text in files().values() for name in re.findall(r'"(?:\./)?([\w-]+\.js)"', text)]
    assert len(named) > 20
    for path in named:
        assert httpx.get(f"{server.url}/{path}").status_code == 200, path


@pytest.mark.parametrize(
    "name", ["..%2fgate.py", "%2e%2e/page_api.py", "page_api.py", "INDEX.HTML", "%00", ".", "nothing.js"]
)
def test_no_other_file_is_served(server, name):
    answer = httpx.get(f"{server.url}/page/{name}")
    assert answer.status_code == 404 and "import" not in answer.text


def test_the_page_comes_without_the_key_and_nothing_else_does(voice_qa, tmp_path):
    with running(voice_qa, tmp_path, api_key=KEY) as server:
        for path in page_api.PATHS:
            assert httpx.get(server.url + path).status_code == 200
        assert httpx.post(f"{server.url}/", files={"audio": b"RIFF"}).status_code == 401
        for path in ("/page/model", "/page/nothing.js", "/page/", "/page", "//"):
            assert httpx.get(server.url + path).status_code == 401, path


def test_the_page_is_told_what_the_model_can(server, xtts_server):
    described = httpx.get(f"{server.url}/page/model").json()
    assert described == {
        "model": "tiny",
        "language": "es",
        "languages": ["es"],
        "saves_voices": False,
        "clones": False,
    }
    described = httpx.get(f"{xtts_server.url}/page/model").json()
    assert described["saves_voices"] and described["clones"] and described["languages"] == ["en", "es"]


def test_all_texts_are_in_both_languages():
    source = files()["strings.js"]
    spanish, english = source.split("\n  en: {")
    keys = [set(re.findall(r"^    (\w+):", part, re.MULTILINE)) for part in (spanish, english)]
    assert keys[0] == keys[1] and len(keys[0]) > 100
    named = set(re.findall(r'data-(?:text|label|hint)="(\w+)"', files()["index.html"]))
    named |= {
        key for name, text in files().items() if name != "strings.js" for key in re.findall(r'\btext\("(\w+)"', text)
    }
    assert named <= keys[0]
