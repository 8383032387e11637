"""The `hfpipe` command: results, one plain line per error, and files that appear whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLES
from typer.testing import CliRunner

import hfpipe
from hfpipe.cli import machine as check
from hfpipe.cli.app import app
from hfpipe.pipeline.audio import load_audio

QUESTION = str(EXAMPLES / "pregunta.wav")
runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture
def models(tiny_whisper, tiny_chat, tiny_vits):
    return ["--model", str(tiny_whisper), "--llm", str(tiny_chat), "--tts", str(tiny_vits)]


def test_ask_prints_and_writes_the_answer(models, tmp_path):
    result = runner.invoke(app, ["ask", QUESTION, *models, "--out", str(tmp_path / "new" / "folder")])
    assert result.exit_code == 0, result.stderr
    for word in ("Question:", "Answer:", "(asr)", "(llm)", "(tts)", "total", "answer.wav"):
        assert word in result.stdout
    assert "Loading the models" in result.stderr
    samples, rate = load_audio(tmp_path / "new" / "folder" / "answer.wav")
    assert len(samples) > 0 and rate == 16_000


def test_ask_as_json_is_json_and_nothing_else(models, tmp_path, voice):
    arguments = ["ask", QUESTION, *models, "--speaker-wav", voice, "--compare", "--json", "--out", str(tmp_path)]
    result = runner.invoke(app, arguments)
    assert "Note: vits can't imitate a voice" in result.stderr
    printed = json.loads(result.stdout)
    assert printed["model"] == models[1] and printed["llm"] == models[3] and printed["tts"] == models[5]
    assert printed["cloned"] is False
    assert set(printed["timings"]) == {
        *("asr", "llm", "llm_first_token", "tts", "tts_base", "first_audio", "total", "overlap")
    }
    for key, name in (("audio", "answer.wav"), ("audio_base", "answer_base.wav")):
        assert printed[key] == str(tmp_path / name)
        assert soundfile.info(printed[key]).frames > 0


@pytest.mark.parametrize("make, words", [
    (lambda path: None, "there is no audio file"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (lambda path: path.write_text("soy [bold]texto[/bold]"), "no audio that"),
    (lambda path: path.write_bytes((EXAMPLES / "pregunta.wav").read_bytes()[:20_000]), "is truncated"),
    (lambda path: soundfile.write(path, np.zeros(48_000), 16_000), "no speech"),
])  # fmt: skip
def test_a_bad_question_is_one_plain_line_before_models_load(models, tmp_path, make, words):
    question = tmp_path / "pregunta[1].wav"
    make(question)
    result = runner.invoke(app, ["ask", str(question), *models, "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error:") and words in result.stderr and "pregunta[1].wav" in result.stderr
    assert "Traceback" not in result.output and "Loading" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_bad_folder_or_model_is_one_plain_line(models, tmp_path):
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["ask", QUESTION, *models, "--out", str(tmp_path / "file")])
    assert result.exit_code == 1 and "is a file; give a folder" in result.stderr
    result = runner.invoke(app, ["ask", QUESTION, "--model", str(tmp_path / "no" / "model"), "--out", str(tmp_path)])
    assert result.exit_code == 1 and "neither a folder" in result.stderr
    result = runner.invoke(app, ["ask", QUESTION, *models[:2], "--out", str(tmp_path)])
    assert result.exit_code == 1 and "no 'llm' part" in result.stderr


def test_check_reports_each_thing_with_its_remedy():
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 0, result.stderr
    for subject in ("Python", "transformers", "torch and torchaudio", "CUDA", "memory", "disk", "FFmpeg", "Hub"):
        assert subject in result.stdout
    for model in ("openai/whisper-small", "Qwen/Qwen2.5-1.5B-Instruct", "coqui/XTTS-v2"):
        assert model in result.stdout


def test_check_finds_a_torchaudio_that_does_not_agree(monkeypatch):
    versions = {"torch": "2.15.0", "torchaudio": "2.11.0"}
    monkeypatch.setattr(check.importlib.metadata, "version", lambda name: versions.get(name, "5.23.0"))
    finding = next(finding for finding in check.check_machine() if finding.subject == "torch and torchaudio")
    assert finding.ok is False and "torch 2.15.0, torchaudio 2.11.0" in finding.found
    assert "torchaudio==2.11.0" in finding.remedy
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 1 and "broken" in result.stdout


def test_a_model_fits_by_what_is_free(monkeypatch):
    monkeypatch.setattr(check, "_free_memory", lambda: (True, 3.0))
    fitting = check.models_that_fit()
    assert [name for name, _, fits in fitting["llm"] if not fits] == [
        "Qwen/Qwen2.5-1.5B-Instruct",
        "Qwen/Qwen2.5-3B-Instruct",
        "Qwen/Qwen2.5-7B-Instruct",
    ]


def test_check_does_not_ask_for_a_torchaudio(monkeypatch):
    find_spec = check.importlib.util.find_spec
    monkeypatch.setattr(
        check.importlib.util, "find_spec", lambda name: None if name == "torchaudio" else find_spec(name)
    )
    finding = next(finding for finding in check.check_machine() if finding.subject == "torch and torchaudio")
    assert finding.ok and "only XTTS needs" in finding.found


@pytest.mark.parametrize("argument, words", [
    ("--help", ("Usage: python -m hfpipe", "ask", "transcribe", "check", "finetune")),
    ("--version", (f"hfpipe {hfpipe.__version__}",)),
])  # fmt: skip
def test_help_and_version_do_not_import_torch(argument, words):
    command = [sys.executable, "-X", "importtime", "-m", "hfpipe", argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in words)
    assert "torch" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("decoy", ["finetune.py", "finetune/__init__.py"])
def test_finetune_is_the_package_beside_hfpipe(decoy, tmp_path):
    (tmp_path / decoy).parent.mkdir(exist_ok=True)
    (tmp_path / decoy).write_text("raise SystemExit('another finetune')")
    environment = os.environ | {"PYTHONPATH": str(Path(hfpipe.__file__).parents[1])}
    command = [sys.executable, "-m", "hfpipe", "finetune", "compare", "test.csv"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("Error: compare got only")


def test_finetune_takes_its_own_arguments():
    result = runner.invoke(app, ["finetune", "--help"])
    assert result.exit_code == 0 and "finetune [OPTIONS] COMMAND" in result.stdout and "evaluate" in result.stdout
    result = runner.invoke(app, ["finetune", "whisper", "--help"])
    assert result.exit_code == 0 and "--max-steps" in result.stdout
    result = runner.invoke(app, ["finetune", "whisper", "no.csv", "--method", "half"])
    assert result.exit_code == 1 and "valid is full" in result.stderr
    result = runner.invoke(app, ["finetune", "compare", "test.csv", "--nonsense"])
    assert result.exit_code == 2 and "No such option" in result.stderr


def test_interrupted_is_one_plain_line(monkeypatch):
    def interrupt(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr("hfpipe.cli.models.load_transcriber", interrupt)
    result = runner.invoke(app, ["transcribe", QUESTION])
    assert result.exit_code == 130 and result.stderr == "Interrupted. The same command resumes where it stopped.\n"
