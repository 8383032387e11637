"""Where results go is checked first, and a terminal that shows little, or is gone, costs no result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLES
from typer.testing import CliRunner

import hfpipe
from hfpipe.cli.app import app
from hfpipe.cli.output import check_output

QUESTION = str(EXAMPLES / "pregunta.wav")
ROOT = str(Path(hfpipe.__file__).parents[1])
runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})
TERMINALS = [
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.fixture
def models(tiny_whisper, tiny_chat, tiny_vits):
    return ["--model", str(tiny_whisper), "--llm", str(tiny_chat), "--tts", str(tiny_vits)]


def bad_folders(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "answer.wav").mkdir(parents=True)
    (tmp_path / "taken" / "pregunta.txt").mkdir()
    return [tmp_path / "file", tmp_path / "file" / "below", Path("/proc/hfpipe"), tmp_path / ("x" * 300),
            tmp_path / "taken"]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_found_before_models_load(models, tmp_path):
    for folder in bad_folders(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        for command in (["ask", QUESTION, *models], ["transcribe", QUESTION, *models[:2]]):
            result = runner.invoke(app, [*command, "--out", str(folder)])
            assert result.exit_code == 1 and result.stderr.startswith("Error:"), (folder, result.stderr)
            assert "give a folder" in result.stderr or "can't be written" in result.stderr
            assert "Loading" not in result.output and "Traceback" not in result.output
        assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_may_be_beside_which_nothing_may_be_written(models, tmp_path, monkeypatch):
    """Recordings on a read-only medium need --out."""
    Path(tmp_path / "music").mkdir()
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda dir: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    with pytest.raises(OSError, match="Read-only file system.*--out"):
        check_output(tmp_path / "music" / "a.txt", "Give --out.")


def test_a_check_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "new" / "folder" / "a.wav", "")
    assert list(tmp_path.iterdir()) == []


def run(command, terminal, **options):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONIO", "LC_", "LANG"))}
    environment |= {"PYTHONPATH": ROOT, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", **terminal}
    return subprocess.run([sys.executable, "-m", "hfpipe", *command], env=environment, capture_output=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_terminal_that_cannot_show_a_character_costs_nothing(terminal, models, tmp_path):
    out = tmp_path / ("out" if "PYTHONUTF8" in terminal else "año 語")
    done = run(["ask", QUESTION, *models, "--out", str(out), "--json"], terminal)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr and (out / "answer.wav").is_file()
    encoding = terminal.get("PYTHONIOENCODING", "ascii")
    assert json.loads(done.stdout.decode(encoding))["audio"] == str(out / "answer.wav")


@pytest.mark.slow
def test_text_degrades(models, tmp_path):
    terminal, out = TERMINALS[1], tmp_path / "語"
    done = run(["ask", QUESTION, *models, "--out", str(out)], terminal)
    assert done.returncode == 0 and b"answer.wav" in done.stdout and b"Traceback" not in done.stderr
    done = run(["transcribe", str(tmp_path / "語.wav"), *models[:2]], terminal)
    assert done.returncode == 1 and b"there is no audio file" in done.stderr and b"Traceback" not in done.stderr
    for command in (["--help"], ["ask", "--help"], ["check"]):
        assert b"Traceback" not in run(command, terminal).stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--json"], []])
def test_a_closed_pipe_ends_quietly_with_the_answer_written(options, models, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hfpipe", "ask", QUESTION, *models, "--out", str(tmp_path), *options]
    try:
        environment = os.environ | {"PYTHONPATH": ROOT}
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, text=True)
    finally:
        os.close(writer)
    assert (tmp_path / "answer.wav").is_file()
    assert not any(word in done.stderr for word in ("Traceback", "Broken", "Exception", "Error"))


def test_a_long_path_in_a_message_is_not_broken(tmp_path):
    missing = tmp_path / ("x" * 100) / "pregunta.wav"
    for command in ("ask", "transcribe"):
        result = CliRunner(env={"COLUMNS": "40", "NO_COLOR": "1"}).invoke(app, [command, str(missing)])
        assert result.exit_code == 1 and str(missing) in result.stderr, command
