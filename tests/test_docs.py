"""What the README and the guides show runs, what they name exists, and the site builds."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hfpipe
from hfpipe.cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FIRST_ANSWER = ROOT / "docs" / "first-answer.md"
PAGES = [README, ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REPOSITORY = re.compile(
    r"https://(?:github\.com/usuario/hfpipe/(?:blob|tree)|raw\.githubusercontent\.com/usuario/hfpipe"
    r"|colab\.research\.google\.com/github/usuario/hfpipe/blob)/main/([^\s)#\"]+)"
)
SITE = re.compile(r"https://usuario\.github\.io/hfpipe/([\w/-]*)(?:#([\w-]+))?")


def snippets(page: Path, language: str) -> list[tuple[int, str]]:
    """Return the line and the code of each fence in a language, without those marked {.notest}."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


def run_snippets(page: Path, folder: Path, names: dict) -> str:
    """Run a page's Python in one namespace, in a folder with the examples, and return what it printed."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        for line, code in snippets(page, "python"):
            exec(compile("\n" * line + code, str(page), "exec"), names)
    return printed.getvalue()


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command in a page's shell snippets."""
    code = "\n".join(code for _, code in snippets(page, "bash")).replace("\\\n", " ")
    lines = [part for line in code.splitlines() for part in line.split(" && ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def first_answer(tmp_path_factory):
    """The names that the first guide leaves, and what it printed; the other guides continue from it."""
    names, folder = {}, tmp_path_factory.mktemp("first_answer")
    printed = run_snippets(FIRST_ANSWER, folder, names)
    assert (folder / "answer.wav").stat().st_size > 10_000
    return names, printed


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.offline
def test_readme_runs(tmp_path):
    assert "París" in run_snippets(README, tmp_path, {})
    assert (tmp_path / "answer.wav").stat().st_size > 10_000


@pytest.mark.offline
def test_first_answer_runs_and_documents_the_result(first_answer):
    names, printed = first_answer
    assert "París" in printed
    assert "no speech" in printed
    documented = set(re.findall(r"`(\w+)`", FIRST_ANSWER.read_text(encoding="utf-8")))
    assert set(names["result"]) | set(names["result"]["timings"]) <= documented


@pytest.mark.offline
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in (README, FIRST_ANSWER) and snippets(page, "python")],
    ids=lambda page: page.stem,
)
def test_guides_run(page, first_answer, tmp_path):
    assert "continue from [Get a first answer](first-answer.md)" in page.read_text(encoding="utf-8")
    run_snippets(page, tmp_path, dict(first_answer[0]))


def test_text_is_read_as_shown():
    shown = re.findall(
        r'^hfpipe\.speakable\("(.*)"\)\n# (.*)$', (ROOT / "docs" / "voices.md").read_text(), re.MULTILINE
    )
    assert shown
    for written, spoken in shown:
        assert hfpipe.speakable(written) == spoken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for program, *words in commands(page):
        options = [word for word in words if word.startswith("--")]
        if program == "make":
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words)
        elif program == "hfpipe":
            depth = 2 if words[0] == "finetune" and words[1] not in options else 1
            shown = CliRunner().invoke(app, [*words[:depth], "--help"])
            assert shown.exit_code == 0, f"{words}: {shown.output}"
            assert all(re.search(rf"(?m){option}\b", shown.output) for option in options), words
        elif program == "python":
            script = (ROOT / words[0]).read_text()
            assert all(f'"{option}"' in script for option in options), words
        else:
            assert program == "pip"
            named = [name for word in words for group in re.findall(r"\[(.*)\]", word) for name in group.split(",")]
            assert set(named) <= set(extras)
            assert all((ROOT / word).is_file() for word in words if word.endswith(".txt"))
    for script in re.findall(r"benchmarks/\w+\.py", page.read_text(encoding="utf-8")):
        assert (ROOT / script).is_file()


def test_ci_runs_what_the_readme_says():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert ["make", "test"] in commands(README)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "mkdocs.yml"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_the_repository_resolve(page):
    for path in REPOSITORY.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_readme_is_short_and_fit_for_pypi(site):
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    assert not re.findall(r"\]\((?!https://)", text), "PyPI's page can't resolve relative links"
    pages = SITE.findall(text)
    assert pages
    for page, anchor in pages:
        html = (site / page / "index.html").read_text(encoding="utf-8")
        assert not anchor or f'id="{anchor}"' in html, (page, anchor)


def test_site_has_every_page_and_loads_nothing_from_elsewhere(site):
    for page in (ROOT / "docs").rglob("*.md"):
        built = site / ("" if page.stem == "index" else page.stem) / "index.html"
        html = built.read_text(encoding="utf-8")
        assert "```" not in html, f"{page} has a fence that isn't rendered"
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="([^"]+)"|<link rel="stylesheet" href="([^"]+)"', html)
        assert not [address for pair in loaded for address in pair if address.startswith(("http", "//"))]


def test_api_reference_has_every_public_name(site):
    identifiers = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    html = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert all(f'id="{identifier}"' in html for identifier in identifiers)
    assert set(hfpipe.__all__) - {"__version__"} <= {identifier.rpartition(".")[2] for identifier in identifiers}
