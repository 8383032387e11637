"""Measure the memory that decoding and transcribing hours of audio take.

Each length is decoded, and with --transcribe transcribed, in a process of its own. Peak memory is the largest
resident set, less what it was before the audio was read. The result is the waveform: 4 bytes per sample at 16 kHz.
Linux only.

    python benchmarks/memory.py
    python benchmarks/memory.py --hours 3 --transcribe --model offline
    python benchmarks/memory.py --hours 3 --transcribe --model offline --speech 0.1
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).resolve().parent.parent
RATE = 44_100  # Hz
MIB = 1 << 20


def write_mp3(path: Path, hours: float, speech: float) -> None:
    """Write a stereo MP3 at 44.1 kHz: the example voice over and over, with silence between its repetitions.

    Args:
        speech: share of the time in which the voice speaks.
    """
    voice, rate = soundfile.read(ROOT / "examples" / "voz.wav", dtype="float32")
    voice = soxr.resample(voice, rate, RATE)
    pause = np.random.default_rng(0).normal(0, 1e-4, round(len(voice) * (1 - speech) / speech)).astype(np.float32)
    once = np.repeat(np.concatenate([voice, pause])[:, np.newaxis], 2, axis=1)
    left = round(hours * 3600 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, format="MP3") as file:
        while left > 0:
            file.write(once[:left])
            left -= len(once)


def memory(name: str) -> float:
    """Return the resident set of this process in MiB: "VmRSS" is that of now, "VmHWM" the largest so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def forget_peak() -> float:
    """Let the largest resident set be that of now, in MiB, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def decode(path: str) -> dict:
    """Decode a file to 16 kHz; return MiB and seconds."""
    from hfpipe import load_audio

    load_audio(ROOT / "examples" / "pregunta.wav", 16_000)
    before, start = forget_peak(), time.perf_counter()
    samples, _ = load_audio(path, 16_000)
    seconds = time.perf_counter() - start
    return {
        "result": samples.nbytes / MIB,
        "over": memory("VmHWM") - before - samples.nbytes / MIB,
        "seconds": seconds,
    }


def transcribe(path: str, model: str) -> dict:
    """Transcribe a file; return MiB, seconds and what was heard."""
    from hfpipe.cli.models import load_transcriber
    from hfpipe.transcription import transcribe_file

    asr = load_transcriber(model)
    transcribe_file(asr, ROOT / "examples" / "voz.wav", "es")
    before, start = forget_peak(), time.perf_counter()
    result = transcribe_file(asr, path, "es")
    return {
        "result": result["seconds"] * 16_000 * 4 / MIB,
        "over": memory("VmHWM") - before - result["seconds"] * 16_000 * 4 / MIB,
        "seconds": time.perf_counter() - start,
        "words": len(result["text"].split()),
        "last": result["segments"][-1]["end"] if result["segments"] else 0,
    }


def main() -> None:
    """Print a table of memory and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1, 2, 3])
    parser.add_argument("--transcribe", action="store_true", help="transcribe as well")
    parser.add_argument("--model", default="offline", help="the Whisper: a folder, a Hub id or 'offline'")
    parser.add_argument("--speech", type=float, default=0.8, help="share of the time in which somebody speaks")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, path = options.child
        print(json.dumps(decode(path) if what == "decode" else transcribe(path, options.model)))
        return
    print("| | hours | file, MiB | result, MiB | over the result, MiB | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for hours in options.hours:
            path = Path(folder, "recording.mp3")
            write_mp3(path, hours, options.speech)
            for what in ("decode", "transcribe") if options.transcribe else ("decode",):
                command = [sys.executable, __file__, "--model", options.model, "--child", what, str(path)]
                done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
                if done.returncode:
                    sys.exit(done.stderr)
                found = json.loads(done.stdout.splitlines()[-1])
                row = [path.stat().st_size / MIB, found["result"], found["over"], found["seconds"]]
                print(f"| {what} | {hours:g} | " + " | ".join(f"{value:,.0f}" for value in row) + " |", end="")
                print(f" {found['words']} words, the last at {found['last']:.0f} s" if "words" in found else "")


if __name__ == "__main__":
    main()
