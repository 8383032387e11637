"""The script for rented machines passes its linter, and a training that it is told to stop ends on another machine."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from own_parts import QUESTION, wait_until
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "train-on-rented-gpu.sh"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
STEPS = 120


def test_the_script_is_clean():
    shellcheck = shutil.which("shellcheck", path=PATH) or pytest.skip("there is no shellcheck")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_skypilot_runs_the_script_with_what_it_sets():
    task = yaml.safe_load((ROOT / "deploy" / "rented-gpu.sky.yaml").read_text())
    assert f"deploy/{SCRIPT.name} whisper" in task["run"] and task["resources"]["use_spot"]
    assert all(f'"${name}"' in task["run"] for name in ("DATA", "OUT")) and "REMOTE" in task["envs"]
    assert task["secrets"] == {"HF_TOKEN": None}


def test_it_says_what_it_needs():
    bare = {"PATH": PATH}
    done = subprocess.run([SCRIPT, "whisper"], env=bare, capture_output=True, text=True)
    assert done.returncode == 1 and "REMOTE=s3:bucket/path or REMOTE=hf:user/repo" in done.stderr
    done = subprocess.run([SCRIPT, "whisper", "t.csv"], env={**bare, "REMOTE": "x:y"}, capture_output=True, text=True)
    assert done.returncode == 2 and "give --out" in done.stderr


@pytest.mark.slow
def test_a_training_that_is_stopped_ends_on_another_machine(tiny_whisper, tmp_path):
    """SIGTERM midway, then a machine that has only the data and the remote: the weights of an uninterrupted run."""
    shutil.which("rclone", path=PATH) or pytest.skip("there is no rclone")
    remote = tmp_path / "remote"
    variables = {"RCLONE_CONFIG_BOX_TYPE": "local", "REMOTE": f"box:{remote}", "SYNC_SECONDS": "1"}
    secrets = {"HF_TOKEN": "hf_secret", "WANDB_API_KEY": "wandb_secret"}
    environment = {**os.environ, **variables, **secrets, "PATH": PATH, "VENV": sys.prefix}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def machine(name: str) -> Path:
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        samples, rate = soundfile.read(QUESTION)
        with open(data / "train.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["audio", "sentence"])
            for i in range(12):
                soundfile.write(data / f"{i}.wav", samples * (0.4 + i / 20), rate)
                table.writerow([f"{i}.wav", f"hola número {'uno dos tres cuatro cinco seis'.split()[i % 6]} {i}"])
        return tmp_path / name

    def start(folder: Path) -> subprocess.Popen:
        options = f"--out runs/oído --max-steps {STEPS} --batch-size 2 --evaluate-every 10 --patience 99"
        command = [
            SCRIPT,
            "whisper",
            "data/train.csv",
            "--model",
            tiny_whisper,
            *options.split(),
            "--precision",
            "float32",
        ]
        with open(folder / "log", "a") as log:
            return subprocess.Popen([*map(str, command)], cwd=folder, env=environment, stdout=log, stderr=log)

    first, second, whole = machine("first"), machine("second"), machine("whole")
    process = start(first)
    assert wait_until(lambda: list(remote.glob("checkpoints/checkpoint-*/whole")), 120), (first / "log").read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, (first / "log").read_text()
    [*_, last] = sorted(remote.glob("checkpoints/checkpoint-*/whole"), key=lambda path: int(path.parent.name[11:]))
    step = int(last.parent.name[11:])
    assert 0 < step < STEPS and f"Stopped by SIGTERM after step {step}" in (first / "log").read_text()
    shutil.rmtree(first / "runs")  # that machine is gone
    for folder in (second, whole):
        if folder is whole:
            environment["REMOTE"] = f"box:{tmp_path / 'unused'}"
        assert start(folder).wait(240) == 0, (folder / "log").read_text()
    assert f"resuming from checkpoint-{step}" in (second / "log").read_text()
    assert f"from checkpoint-{step}" in (second / "log").read_text().partition("resuming from")[2]
    assert "beginning anew" in (whole / "log").read_text()
    resumed, expected = (load_file(folder / "runs" / "oído" / "model.safetensors") for folder in (second, whole))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())
    assert (remote / "report.md").is_file() and (remote / "model.safetensors").is_file()
    said = "".join((folder / "log").read_text() for folder in (first, second, whole))
    assert "secret" not in said
