"""The notebooks run with the offline repo, show the expected output, and are committed without output."""

import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import soundfile
from render import execute

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def read(name: str):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def run(name: str, folder: Path, only: set[str] | None = None, **parameters) -> dict[str, str]:
    """Return the output of each cell of a notebook as text, by cell id."""
    cells = execute(name, folder, only, **parameters).cells
    return {cell.id: "\n".join(map(shown, cell.outputs)) for cell in cells if cell.cell_type == "code"}


def shown(output) -> str:
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    picture = "<image/png>" if "image/png" in data else ""
    return picture + data.get("text/html", data.get("text/markdown", data.get("text/plain", "")))


def columns(markdown: str) -> dict[str, list[str]]:
    """Return the columns of a Markdown table by their headings."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith("| ")
    ]
    return dict(zip(lines[0], map(list, zip(*lines[2:], strict=True)), strict=True))


@pytest.fixture
def kernel(monkeypatch):
    """Let kernels import this checkout, with the Hub offline."""
    monkeypatch.setenv("HFPIPE_CHECKOUT", str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count is not None]
    assert not re.search(r"^(def|class) |^\s+def ", "\n".join(cell.source for cell in code), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_in_colab_from_the_readme(name):
    address = rf"https://colab\.research\.google\.com/github/\S+/notebooks/{name}\.ipynb"
    in_readme = re.findall(address, (ROOT / "README.md").read_text())
    in_notebook = re.findall(address, read(name).cells[0].source)
    assert in_readme and in_readme == in_notebook


def test_what_the_notebooks_install_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = {
        re.match(r"[\w-]+", line)[0].lower()
        for name in ("lab", "offline", "xtts", "finetune")
        for line in [*project["dependencies"], *extras[name]]
    }
    pins = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert needed <= {pin.lower() for pin in pins}
    for_colab = {re.match(r"[\w-]+", line)[0].lower() for line in extras["lab"]}
    assert not for_colab & {"ipykernel", "ipython", "pandas", "notebook", "tornado", "requests"}


@pytest.mark.offline
def test_the_laboratory_runs_whole_and_ticks_its_list(kernel, tmp_path):
    said = run("01_laboratorio_voz", tmp_path)
    assert re.search(r"transformers: \d+\.\d+", said["celda-0"]) and "semilla: 0" in said["celda-0"]
    assert "def ensure_16k_mono" in said["celda-1"]
    assert "dura entre 10 y 15 s" in said["celda-2"] and said["celda-2"].count("<audio") == 2
    assert re.search(r"ASR: \d+\.\d\d s", said["celda-3"]) and "capital de Francia" in said["celda-3"]
    assert re.search(r"LLM: \d+\.\d\d s", said["celda-4"]) and "París" in said["celda-4"]
    assert "no clona" in said["celda-5"]
    assert set(re.findall(r"^(\w+_time) +\d+\.\d\d s", said["celda-6"], re.MULTILINE)) == {
        "asr_time",
        "llm_time",
        "tts_clone_time",
        "tts_base_time",
        "total_time",
    }
    times = columns(said["celda-7-tabla"])
    assert times["etapa"] == ["ASR", "LLM", "TTS clonada", "TTS base", "total"]
    assert sum(map(float, times["segundos"][:-1])) <= float(times["segundos"][-1]) + 0.05
    assert said["celda-7-barras"].startswith("<image/png>") and said["celda-7-ondas"].startswith("<image/png>")
    assert said["celda-7-audios"].count("<audio") == 3
    measured = columns(said["celda-7-medidas"])
    cloned, base = map(float, measured["parecido"])
    assert measured["voz"] == ["clonada", "base"] and cloned > base
    assert all(float(rate) <= 20 for rate in measured["WER %"])
    assert said["celda-8"].count("✔") == 9 and "✘" not in said["celda-8"]
    for name in ("out_clone", "out_base", "clonada", "base"):
        assert soundfile.info(tmp_path / "out" / f"{name}.wav").duration > 0.5
    assert said["descargar"] == ""


@pytest.mark.offline
def test_the_fine_tuning_notebook_learns_and_answers(kernel, tmp_path):
    said = run("02_afinar_whisper", tmp_path, METODO="full", PASOS=2, LOTE=2)
    assert "El Hub no contesta" in said["celda-1"]
    compared = columns(said["celda-2"])
    assert compared["modelo"] == ["offline"] and float(compared["segundos"][0]) > 0
    assert 0 <= float(compared["WER %"][0]) <= 100
    before, after = re.search(r"WER antes: ([\d.]+) %  después: ([\d.]+) %", said["celda-4"]).groups()
    assert before == f"{float(compared['WER %'][0]):.1f}" and float(after) <= 100
    assert "word error rate on 3 test utterances" in said["celda-4"] and "<image/png>" in said["celda-4"]
    assert said["celda-4-oir"].count("<audio") == 3 and said["celda-4-oir"].count("después:") == 3
    assert "París" in said["celda-5"] and "<audio" in said["celda-5"]
    assert "No se publica" in said["celda-6"]
    assert said["celda-7"].count("✔") == 6 and "✘" not in said["celda-7"]


@pytest.mark.offline
def test_the_conversation_remembers_and_is_heard_as_it_comes(kernel, tmp_path):
    said = run("03_conversacion", tmp_path)
    assert said["celda-3"].count("empezó a sonar a los") == 2 and said["celda-3"].count("<audio") >= 2
    assert "París" in said["celda-4"] and "Roma" in said["celda-4"]
    assert said["celda-4"].count("tú:") == said["celda-4"].count("asistente:") == 2
    assert said["celda-5"].count("✔") == 4 and "✘" not in said["celda-5"]
    assert "París" in (tmp_path / "out" / "conversacion.json").read_text(encoding="utf-8")


@pytest.fixture
def colab(kernel, tmp_path, monkeypatch):
    """Install a stand-in for Colab's package, whose user uploads the example question, and then the example voice."""
    package = tmp_path / "site" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "files.py").write_text(
        "import pathlib\n"
        f"chosen = iter([{str(ROOT / 'examples' / 'pregunta.wav')!r}, {str(ROOT / 'examples' / 'voz.wav')!r}])\n"
        "def upload():\n"
        "    path = pathlib.Path(next(chosen))\n"
        "    pathlib.Path(path.name).write_bytes(path.read_bytes())\n"
        "    return {path.name: path.read_bytes()}\n"
        "def download(path):\n"
        "    print('downloads', path)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{ROOT}")
    return tmp_path


@pytest.mark.slow
def test_in_colab_recordings_are_uploaded_and_downloaded(colab):
    cells = {"elige", "celda-0", "celda-1", "celda-2", "descargar"}
    said = run("01_laboratorio_voz", colab, cells, ENTRADA="subir", voces={"clonada": "out/out_clone.wav"})
    assert "La voz de referencia, 10–15 s" in said["celda-2"]
    assert (colab / "pregunta.wav").is_file() and (colab / "voz.wav").is_file()
    assert soundfile.info(colab / "out" / "voz_16k.wav").samplerate == 16_000
    assert "dura entre 10 y 15 s" in said["celda-2"]
    assert said["descargar"].strip() == "downloads out/out_clone.wav"
