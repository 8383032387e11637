"""The built package: what the wheel and the sdist hold, and that both work away from the checkout."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import EXAMPLES

import hfpipe

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
TRACKED = ("benchmarks", "deploy", "examples", "finetune", "hfpipe", "notebooks", "tests")


def files_of(folder: str, *suffixes: str) -> set[str]:
    """Return the files below a folder of the checkout that git would track, relative to the checkout."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if not suffixes or path.suffix in suffixes}


def run(command, cwd, given: str | None = None, **environment) -> str:
    """Run a command with `given` on its standard input, and return what it printed."""
    where = {"cwd": cwd, "env": os.environ | environment}
    done = subprocess.run(list(map(str, command)), input=given, capture_output=True, text=True, **where)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist and, from it, the wheel; return the folder of both."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Install the wheel into a folder of its own, to be put before the checkout on the path."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel], cwd=folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inside,) = folder.iterdir()
    return inside


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == files_of("hfpipe") | files_of("finetune")
    assert {"hfpipe/py.typed", "finetune/py.typed", "hfpipe/notebook/recorder.js"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def test_the_installed_package_runs(installed, tmp_path):
    where = {"PYTHONPATH": str(installed)}
    found = run([sys.executable, "-c", "import hfpipe; print(hfpipe.__file__)"], tmp_path, **where)
    assert Path(found.strip()).is_relative_to(installed)
    version = f"hfpipe {hfpipe.__version__}\n"
    assert run([installed / "bin" / "hfpipe", "--version"], tmp_path, **where) == version
    (metadata,) = importlib.metadata.distributions(name="hfpipe", path=[str(installed)])
    assert metadata.version == hfpipe.__version__ and metadata.metadata["License-Expression"] == "Apache-2.0"


def test_the_command_runs_its_own_finetune(installed, tmp_path):
    (tmp_path / "finetune.py").write_text("raise SystemExit('another finetune')")
    where = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(installed)])}
    for command in ([installed / "bin" / "hfpipe"], [sys.executable, "-m", "hfpipe"]):
        assert "--max-steps" in run([*command, "finetune", "whisper", "--help"], tmp_path, **where)


@pytest.mark.offline
def test_the_installed_command_answers(installed, tmp_path):
    models = ["--model", hfpipe.offline_repo()]
    command = [installed / "bin" / "hfpipe", "ask", EXAMPLES / "pregunta.wav", *models]
    assert "París" in run(command, tmp_path, PYTHONPATH=str(installed))
    assert (tmp_path / "answer.wav").stat().st_size > 10_000


def test_the_sdist_holds_what_its_tests_need(unpacked):
    for folder in TRACKED:
        missing = {name for name in files_of(folder) if not (unpacked / name).exists()}
        assert not missing
    for name in ("LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "Makefile", "requirements.txt", ".ci/run"):
        assert (unpacked / name).is_file()


def test_the_tests_of_the_sdist_pass(unpacked):
    """All are collected, so that what they import is there; a few files are run."""
    where = "import hfpipe; print(hfpipe.__file__)"
    assert Path(run([sys.executable, "-c", where], unpacked).strip()).is_relative_to(unpacked)
    chosen = ["-m", "not offline", "-k", "test_phrases or test_sentences or test_borders"]
    assert " passed, " in run([sys.executable, "-m", "pytest", "-q", *chosen], unpacked)


MISSING = [
    ("gradio", "demo", "hfpipe.demo(None)"),
    ("openai", "remote", "hfpipe.RemoteLLM('http://127.0.0.1:1/v1', 'model')"),
    ("resemblyzer", "lab", "from hfpipe.pipeline.audio_speaker import similarity; similarity(VOICE, VOICE)"),
    ("onnxruntime", "offline", "hfpipe.load(hfpipe.offline_repo())"),
    ("TTS", "xtts", "hfpipe.load_tts(XTTS)"),
    ("jiwer", "finetune", "import finetune; finetune.evaluate_whisper"),
    ("jiwer", "lab", "from hfpipe.notebook import laboratory as lab; lab.measure_voices({'a': VOICE}, 'a', VOICE, 0)"),
    ("matplotlib", "lab", "from hfpipe.notebook import plots; plots.plot_times({'asr': 1.0})"),
    ("speechmos", "finetune", "import finetune.voice.mos, numpy; finetune.voice.mos.estimate_mos(numpy.ones(9))"),
    ("ctranslate2", "finetune", "import finetune; finetune.export_ct2(WHISPER, 'out')"),
]
TRY_WITHOUT = """
import json, sys, hfpipe
names, cases = json.load(sys.stdin)
for package, code in cases:
    sys.modules[package] = None  # its import fails
    try:
        exec(code, {"hfpipe": hfpipe, **names})
    except ImportError as error:
        print(json.dumps(str(error)))
    else:
        print(json.dumps(f"{code} worked without {package}"))
    del sys.modules[package]
"""


@pytest.mark.offline
def test_missing_extras_are_named(tiny_whisper, tiny_xtts, tmp_path):
    names = {"VOICE": str(EXAMPLES / "voz.wav"), "WHISPER": str(tiny_whisper), "XTTS": str(tiny_xtts)}
    given = json.dumps([names, [(package, code) for package, _, code in MISSING]])
    printed = run([sys.executable, "-c", TRY_WITHOUT], tmp_path, given, PYTHONPATH=str(ROOT))
    for line, (package, extra, _) in zip(printed.splitlines(), MISSING, strict=True):
        assert f"pip install 'hfpipe[{extra}]'" in json.loads(line), package
