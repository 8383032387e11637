"""The commands of `python -m finetune`, their error messages, and options from YAML."""

import json
import subprocess
import sys

import pytest
import soundfile
from test_check_rows import RATE, speech, write_bad_rows
from typer.testing import CliRunner

from finetune.__main__ import app
from finetune.options import HELP

runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    lines = ["audio,sentence,speaker"]
    for i in range(8):
        soundfile.write(folder / f"{i}.wav", speech(1.0, i), RATE)
        lines.append(f"{i}.wav,frase número {i},{'ana' if i < 6 else 'luis'}")
    (folder / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "all.csv"


@pytest.mark.slow
def test_whisper_trains_from_yaml_and_the_command_line_wins(table, tiny_whisper, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        f"train: {table}\nmodel: {tiny_whisper}\nout: {tmp_path / 'yaml'}\nmax_steps: 9\nvalidation_share: 0\n"
        "log_to: none\nbatch_size: 2\n"
    )
    command = ["whisper", "--config", str(tmp_path / "mine.yaml"), "--max-steps", "1", "--out", str(tmp_path / "out")]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "no better" in result.stdout and "before" in result.stdout and "after" in result.stdout
    options = json.loads((tmp_path / "out" / "options.json").read_text())
    assert options["max_steps"] == 1 and options["batch_size"] == 2 and not (tmp_path / "yaml").exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"] == {"train": 6, "validation": 0, "test": 2}  # split by speaker


@pytest.mark.slow
def test_check_prints_and_writes_what_is_wrong(tiny_whisper, tmp_path):
    bad, expected = write_bad_rows(tmp_path)
    command = ["check", str(bad), "--model", str(tiny_whisper), "--out", str(tmp_path / "report.json")]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["kept"] == 6 and sum(report["dropped"].values()) == len(expected)
    assert all(f"| {line} |" in result.stdout for line, _ in expected)


def test_check_refuses_a_leak(table, tiny_whisper):
    result = runner.invoke(app, ["check", str(table), str(table), "--model", str(tiny_whisper)])
    assert result.exit_code == 1 and "8 of 8 test recordings are also in the training set" in result.stderr


def test_check_says_what_the_sets_share_and_where_the_audio_was(tiny_whisper, tmp_path):
    (tmp_path / "clips").mkdir()
    for name, speakers in (("train", ["ana", "luis"]), ("test", ["ana", "eva", "eva"])):
        lines = ["client_id\tpath\tsentence"]
        for i, speaker in enumerate(speakers):
            soundfile.write(tmp_path / "clips" / f"{name}{i}.wav", speech(1.0, hash((name, i)) % 999), RATE)
            lines.append(f"{speaker}\t{name}{i}.wav\tfrase número {i}")
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tables = [str(tmp_path / "train.tsv"), str(tmp_path / "test.tsv")]
    result = runner.invoke(app, ["check", *tables, "--model", str(tiny_whisper)])
    assert result.exit_code == 0, result.stderr
    assert "the sentences of 2 of 3 rows are also there, and 1 of 2 speakers are in both" in result.stdout
    assert result.stdout.count("Audio found in clips/") == 2  # once in each report
    result = runner.invoke(app, ["evaluate", str(tiny_whisper), tables[1]])
    assert result.exit_code == 0 and "Audio found in clips/ (3 rows)" in result.stdout


def test_export_says_what_is_no_whisper(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    result = runner.invoke(app, ["export", str(tmp_path / "adapter"), str(tmp_path / "out")])
    assert result.exit_code == 1 and "is a LoRA adapter" in result.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_evaluate_and_compare(table, tiny_whisper, monkeypatch):
    result = runner.invoke(app, ["evaluate", str(tiny_whisper), str(table), "--json", "--max-rows", "3"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["utterances"] == 3 and found["wer"] >= 100 and found["parameters"] > 1000 and found["rtf"] > 0
    monkeypatch.chdir(tiny_whisper.parent)  # a name that fits into the table's column
    name = tiny_whisper.name
    result = runner.invoke(app, ["compare", name, name, str(table), "--max-rows", "2"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count(name) == 2 and "WER" in result.stdout


@pytest.mark.parametrize("command, words", [
    (["whisper"], "nothing to train on"),
    (["whisper", "no.csv", "--method", "half"], "valid is full"),
    (["whisper", "--config", "no.yaml"], "there is no file no.yaml"),
    (["check", "no.csv", "--model", "MODEL"], "there is no table no.csv"),
    (["check", "no.csv", "--out", "x.pdf"], "ends in .md or .json"),
    (["evaluate", "MODEL", "no.csv"], "there is no table no.csv"),
    (["evaluate", "no/where/model", "no.csv"], "neither a folder"),
    (["compare", "test.csv"], "give the models and then the table"),
    (["export", "nowhere", "out"], "there is no Whisper in nowhere"),
])  # fmt: skip
def test_errors_are_one_plain_line(tiny_whisper, tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, [str(tiny_whisper) if word == "MODEL" else word for word in command])
    assert result.exit_code == 1
    assert words in result.stderr and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_help_is_quick_and_names_every_option():
    command = [sys.executable, "-X", "importtime", "-m", "finetune", "whisper", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    for name in set(HELP) - {"train", "test"}:
        assert f"--{name.replace('_', '-')}" in done.stdout
    assert "torch" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
