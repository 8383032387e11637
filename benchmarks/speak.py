"""Benchmark speaking many lines in batches against one by one: python benchmarks/speak.py xtts|kokoro

`xtts` speaks 32 lines with random weights of XTTS v2's full size, a fixed number of audio tokens each; the two ways
take turns. `kokoro` speaks 1,000 lines with the offline voice by `hfpipe speak`, which is killed twice by SIGKILL and
started again, and 200 of them one by one; it counts that every line was spoken once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
from measure import Row, report

from hfpipe.spoken_lines import read_lines
from hfpipe.synthesis import BATCH_SIZE, MANIFEST, read_manifest, speak_lines

TOKENS = 32  # audio tokens of each line: 1.5 s
XTTS_LINES, LINES, ALONE = 32, 1000, 200
NOUNS = "puerta sala calle torre mesa silla casa plaza fuente iglesia escuela tienda playa granja huerta cueva".split()
NOUNS += "lámpara ventana escalera cocina estación biblioteca farmacia montaña carretera bodega taberna".split()
NOUNS += "capilla muralla ribera llanura pradera".split()
WORDS = "norte azul vieja nueva grande roja blanca verde alta baja ancha larga corta limpia clara oscura".split()
WORDS += "tranquila redonda cerrada abierta cercana lejana pequeña bonita antigua moderna estrecha seca".split()
WORDS += "húmeda fresca templada cálida".split()


def write_lines(folder: Path, count: int) -> Path:
    """Write so many different short lines to a text file."""
    pairs = list(product(NOUNS, WORDS))[:count]
    assert len(set(pairs)) == count
    file = folder / "texts.txt"
    file.write_text("".join(f"La {noun} {word}.\n" for noun, word in pairs), encoding="utf-8")
    return file


def rate(rows: list[dict]) -> float:
    """Return the real-time factor of rows of a manifest."""
    return sum(row["took"] for row in rows) / sum(row["seconds"] for row in rows)


def measure_xtts(folder: Path) -> list[Row]:
    """Compare the real-time factors of XTTS in batches and one by one."""
    from xtts import make_checkpoint

    from hfpipe.pipeline.tts_xtts import XTTS
    from hfpipe.pipeline.tts_xtts_checkpoint import quietly

    with quietly():
        voice = XTTS.from_pretrained(make_checkpoint())
    lines, exact = read_lines(write_lines(folder, XTTS_LINES)), {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
    found: dict[int, list[dict]] = {1: [], BATCH_SIZE: []}
    list(speak_lines(voice, lines[:BATCH_SIZE], folder / "warm", **exact))
    for first in range(0, XTTS_LINES, BATCH_SIZE):  # they take turns
        for size, rows in found.items():
            part = lines[first : first + BATCH_SIZE]
            rows += speak_lines(voice, part, folder / f"{size}-{first}", batch_size=size, **exact)
    name = f"XTTS, {XTTS_LINES} lines in batches of {BATCH_SIZE} against one by one: real-time factor"
    return [Row(name, rate(found[BATCH_SIZE]), rate(found[1]), "s per s of sound")]


def measure_kokoro(folder: Path) -> list[Row]:
    """Speak lines with a command that is killed and started again, count them, and compare with one by one."""
    import hfpipe
    from hfpipe.pipeline.tts_kokoro import Kokoro

    texts, out = write_lines(folder, LINES), folder / "out"
    command = [sys.executable, "-m", "hfpipe", "speak", str(texts), "--model", "offline", "--out", str(out)]
    rng, start = np.random.default_rng(0), time.perf_counter()
    for done in (LINES // 4, LINES // 2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(read_manifest(out)) < done:
            time.sleep(float(rng.uniform(0.5, 1)))
        process.kill()
        process.wait()
        print(f"killed with {len(read_manifest(out))} lines in the manifest")
    subprocess.run(command, check=True)
    rows = [json.loads(line) for line in (out / MANIFEST).read_text(encoding="utf-8").splitlines()]
    times = Counter(row["line"] for row in rows)
    files = {row["file"] for row in rows if (out / row["file"]).stat().st_size > 1000}
    assert len(times) == len(files) == LINES and set(times.values()) == {1} and len(list(out.glob("*.wav"))) == LINES
    print(f"{LINES} lines, each once, in {time.perf_counter() - start:.0f} s with three starts")
    voice = Kokoro.from_pretrained(os.path.join(hfpipe.offline_repo(), "tts"))
    alone = list(speak_lines(voice, read_lines(texts)[:ALONE], folder / "alone", batch_size=1))
    same = {row["line"] for row in alone}
    ours = rate([row for row in rows if row["line"] in same])
    print(f"all {LINES} lines: real-time factor {rate(rows):.3f}")
    name = f"Kokoro, {ALONE} lines side by side against one by one: real-time factor"
    return [Row(name, ours, rate(alone), "s per s of sound")]


def main() -> None:
    """Run a benchmark, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voice", choices=["xtts", "kokoro"])
    parser.add_argument("--json", type=Path, help="output file for the rows; a chart is written next to it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {"xtts": measure_xtts, "kokoro": measure_kokoro}[arguments.voice](Path(folder))
    report("Many lines", rows, arguments.json)


if __name__ == "__main__":
    main()
