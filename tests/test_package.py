"""The built package: what the wheel and the sdist hold, and that both work away from the checkout."""

import importlib.metadata
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
TRACKED = ("benchmarks", "examples", "finetune", "hfpipe", "notebooks", "tests")


def files_of(folder: str, *suffixes: str) -> set[str]:
    """Return the files below a folder of the checkout that git would track, relative to the checkout."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found if not suffixes or path.suffix in suffixes}


def run(command, cwd, **environment) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
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
    files = ["tests/pipeline/test_phrases.py", "tests/pipeline/test_sentences.py", "tests/test_borders.py"]
    where = "import hfpipe; print(hfpipe.__file__)"
    assert Path(run([sys.executable, "-c", where], unpacked).strip()).is_relative_to(unpacked)
    run([sys.executable, "-m", "pytest", "-q", "-m", "not offline", *files], unpacked)
    assert "tests collected" in run([sys.executable, "-m", "pytest", "--collect-only", "-q"], unpacked)


@pytest.mark.parametrize("package, extra, code", [
    ("openai", "remote", "hfpipe.RemoteLLM('http://127.0.0.1:1/v1', 'model')"),
    ("resemblyzer", "lab", "from hfpipe.pipeline.audio_speaker import similarity; similarity(VOICE, VOICE)"),
    pytest.param("onnxruntime", "offline", "hfpipe.load(hfpipe.offline_repo())", marks=pytest.mark.offline),
    ("TTS", "xtts", "hfpipe.load_tts(XTTS)"),
    ("jiwer", "finetune", "import finetune; finetune.evaluate_whisper"),
    ("jiwer", "lab", "from hfpipe.notebook import laboratory as lab; lab.measure_voices({'a': VOICE}, 'a', VOICE, 0)"),
    ("matplotlib", "lab", "from hfpipe.notebook import plots; plots.plot_times({'asr': 1.0})"),
    ("ctranslate2", "finetune", "import finetune; finetune.export_ct2(WHISPER, 'out')"),
])  # fmt: skip
def test_a_missing_extra_is_named(package, extra, code, tiny_whisper, tiny_xtts, tmp_path):
    names = f"VOICE, WHISPER, XTTS = {str(EXAMPLES / 'voz.wav')!r}, {str(tiny_whisper)!r}, {str(tiny_xtts)!r}"
    script = f"import sys, hfpipe\nsys.modules[{package!r}] = None  # its import fails\n{names}\n{code}"
    command, where = [sys.executable, "-c", script], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and f"pip install 'hfpipe[{extra}]'" in last
