"""Kill a real training at three random times and resume it: `python benchmarks/killed.py --data DIR --out FOLDER`.

One training runs uninterrupted, and another gets SIGKILL at random times; then their losses, transcripts and weights
are compared. Options after `--` are passed to both trainings.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

KILLS = 3
ROOT = Path(__file__).parent.parent


def start(data: Path, out: Path, more: list[str]) -> subprocess.Popen:
    """Start a training, or resume the one in `out`."""
    tables = [str(data / f"{name}.csv") for name in ("train", "test")]
    command = [sys.executable, "-m", "finetune", "whisper", *tables, "--out", str(out), "--resume", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_base(process: subprocess.Popen, out: Path) -> None:
    """Wait until a training has evaluated its base model."""
    while not (out / "before.json").is_file() and process.poll() is None:
        time.sleep(0.1)


def finish(process: subprocess.Popen) -> None:
    """Wait until a training ends; exit if it failed."""
    if process.wait():
        sys.exit(f"Error: the training ended with {process.returncode}; run it by hand to see why.")


def main() -> None:
    """Run both trainings and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for both trainings")
    parser.add_argument("--seed", type=int, default=None, help="random seed for the times; differs by default")
    options, more = parser.parse_known_args()
    more = [argument for argument in more if argument != "--"]
    if "--model" not in more:
        sys.path.insert(0, str(ROOT))
        from hfpipe import offline_repo

        more += ["--model", offline_repo()]
    data, whole, killed = options.data.resolve(), options.out.resolve() / "whole", options.out.resolve() / "killed"
    process = start(data, whole, more)
    wait_for_base(process, whole)
    start_time = time.monotonic()
    finish(process)
    length = time.monotonic() - start_time
    print(f"uninterrupted: {length:.0f} s after the evaluation of the base model", flush=True)
    rng = random.Random(options.seed)
    for kill in range(1, KILLS + 1):
        process = start(data, killed, more)
        wait_for_base(process, killed)
        seconds = rng.uniform(0.2, 0.5) * length  # a resumed run is shorter than the uninterrupted one
        try:
            process.wait(seconds)
            print(f"kill {kill}: it had ended before {seconds:.0f} s", flush=True)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            saved = sorted(path.name for path in killed.glob("checkpoints/checkpoint-*"))
            print(f"kill {kill}: after {seconds:.0f} s, with {', '.join(saved) or 'no checkpoint'}", flush=True)
    finish(start(data, killed, more))
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    rates = [report["after"]["test"]["wer"] for report in reports]
    curves = [[float(entry["loss"]) for entry in report["history"] if "loss" in entry] for report in reports]
    weights = [load_file(folder / "model.safetensors") for folder in (whole, killed)]
    weight_difference = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    loss_difference = max(abs(one - other) for one, other in zip(*curves, strict=True))
    print(f"WER uninterrupted {rates[0]:.3f} %, killed {rates[1]:.3f} %; losses differ by up to {loss_difference:.1e}")
    is_equal = reports[0]["transcripts"] == reports[1]["transcripts"]
    print(f"transcripts equal: {is_equal}; weights differ by up to {weight_difference}")


if __name__ == "__main__":
    main()
