"""Run 200 turns in one process, and check for leaks of threads and memory: `python benchmarks/soak.py [--turns N]`.

It uses the offline repo. The kind of each turn is random: a plain call, a stream read to its end, a stream that is
cancelled after some events or left to the garbage collector, or a deliberate failure in one of the stages. The text
and audio of every complete answer are compared with the first answer to the same question.
"""

import argparse
import ctypes
import gc
import json
import random
import sys
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from measure import machine
from rich.console import Console
from rich.table import Table

import hfpipe

QUESTIONS = ("¿Cuál es la capital de España?", "¿De qué color es el cielo?", "Dime tres frutas.")
KINDS = {"plain": 4, "stream": 8, "cancelled": 4, "abandoned": 2, "failing": 2}  # by weight
WARM_UP = 0.2  # fraction of the turns before the first memory measurement
LONGEST_END = 5.0  # seconds until the threads of a cancelled or abandoned turn must have ended


def break_llm(input_ids, scores):
    """Raise an error during generation, as a logits processor."""
    raise RuntimeError("broken on purpose")


FAILURES = {  # by stage: the question, and the options of the call
    "asr": ({"array": np.zeros(32_000, np.float32), "sampling_rate": 16_000}, {}),
    "llm": (None, {"generate_kwargs": {"logits_processor": [break_llm]}}),
    "tts": (None, {"tts_kwargs": {"speed": -1}}),
}


def check(result: dict, expected: dict) -> None:
    """Raise AssertionError if a result differs from the first one for the same question."""
    for key in ("question", "answer", "language", "sampling_rate", "cloned"):
        assert result[key] == expected[key], (key, result[key], expected[key])
    np.testing.assert_allclose(result["audio"], expected["audio"], atol=1e-4)


def take_turn(pipe, kind: str, question: dict, expected: dict, chance: random.Random) -> str:
    """Run a turn, and return its kind, including the stage of a deliberate failure."""
    if kind == "plain":
        check(pipe(question), expected)
    elif kind == "failing":
        stage = chance.choice(list(FAILURES))
        audio, options = FAILURES[stage]
        try:
            list(pipe.stream(question if audio is None else audio, **options))
        except Exception as error:
            assert f"in the stage {stage!r} of the stream" in error.__notes__, error
            return f"failing in {stage}"
        raise AssertionError(f"the failure in {stage} went unseen")
    else:
        stream = pipe.stream(question)
        list(islice(stream, None if kind == "stream" else chance.randrange(12)))
        if kind == "cancelled":
            stream.cancel()
            kept = stream.result["answer"] if stream.result else ""
            assert " ".join(expected["answer"].split()).startswith(kept), kept
        elif kind == "stream":
            check(stream.result, expected)
    return kind


def own_threads() -> int:
    """Return the number of hfpipe's threads, after waiting for those that are ending."""
    gc.collect()
    end = time.monotonic() + LONGEST_END
    while (count := sum(t.name.startswith("hfpipe") for t in threading.enumerate())) and time.monotonic() < end:
        time.sleep(0.01)
    return count


def memory_in_use() -> float:
    """Return the resident memory in MB, without freed memory that the allocator retains."""
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # otherwise the arenas of ended threads would look like a leak
    return psutil.Process().memory_info().rss / 1e6


def main() -> None:
    """Run the turns, and print their kinds, the memory usage and the number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="output file for the figures")
    options = parser.parse_args()
    chance, pipe = random.Random(options.seed), hfpipe.load(hfpipe.offline_repo(), device="cpu")
    questions = [{"array": pipe.tts(text), "sampling_rate": pipe.tts.sampling_rate} for text in QUESTIONS]
    expected = [pipe(question) for question in questions]
    taken, memory, threads = Counter(), [], []
    for turn in range(options.turns):
        kind = chance.choices(list(KINDS), KINDS.values())[0]
        number = chance.randrange(len(questions))
        taken[take_turn(pipe, kind, questions[number], expected[number], chance)] += 1
        left = own_threads()
        assert left == 0, f"{left} threads are left after turn {turn}, {kind}"
        memory.append(memory_in_use())
        threads.append(psutil.Process().num_threads())
    early = round(options.turns * WARM_UP)
    figures = {
        "turns": options.turns, **taken, "hfpipe's threads left": own_threads(),
        f"threads after {early} turns": threads[early], "threads at the end": threads[-1],
        f"memory after {early} turns, MB": round(memory[early]), "memory at the end, MB": round(memory[-1]),
        "memory at most, MB": round(max(memory)),
    }  # fmt: skip
    table = Table("what", "figure", title="A long conversation", caption=machine())
    for name, figure in figures.items():
        table.add_row(name, str(figure))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({**figures, "memory": memory}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
