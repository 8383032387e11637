"""One pipeline for many callers: whether each gets what it gets alone, and what is left behind.

    python benchmarks/callers.py [--model REPO] [--threads 8] [--calls 25] [--streams 10]

Questions of the example recording, a little faster or slower, are answered alone, and then by threads and by asyncio's
threads at once, as calls and as streams that are cancelled at random. It prints JSON, and exits with 1 if any answer
or sample differs.
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import soundfile
import soxr
from measure import machine

import hfpipe

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEEDS = (1.0, 0.94, 0.97, 1.03, 1.06)
CANCEL_AFTER = (0, 1, 3, 6, None, None, None)  # events; None lets a stream end


def same(one: dict, other: dict) -> bool:
    """Return whether two results have the same texts and, bit for bit, the same samples."""
    texts = all(one[name] == other[name] for name in ("question", "answer", "language", "cloned"))
    return texts and np.array_equal(one["audio"], other["audio"])


class Callers:
    """Ask one pipeline from many threads, and count what comes out differently."""

    def __init__(self, pipe):
        audio, rate = soundfile.read(EXAMPLES / "pregunta.wav", dtype="float32")
        self.pipe = pipe
        self.questions = [{"array": soxr.resample(audio, rate, rate * s), "sampling_rate": rate} for s in SPEEDS]
        self.options = [{}, {"speaker_wav": str(EXAMPLES / "voz.wav")}, {"language": None}, {}, {"max_new_tokens": 16}]
        asked = list(zip(self.questions, self.options, strict=True))
        self.alone = [pipe(question, **options) for question, options in asked]
        self.streamed = [list(pipe.stream(question, **options))[-1].result for question, options in asked]
        self.counts = {"calls": 0, "streams": 0, "cancelled": 0, "different": 0}
        self._lock = threading.Lock()

    def call(self, number: int) -> None:
        """Make one plain call."""
        i = number % len(self.questions)
        result = self.pipe(self.questions[i], **self.options[i])
        self._count("calls", same(result, self.alone[i]))

    def stream(self, number: int) -> None:
        """Make one stream, and cancel it or not."""
        chance = random.Random(number)
        i, last = number % len(self.questions), chance.choice(CANCEL_AFTER)
        stream = self.pipe.stream(self.questions[i], **self.options[i])
        for count, _ in enumerate(stream):
            if count == last:
                stream.cancel()
        if last is None:
            self._count("streams", same(stream.result, self.streamed[i]))
        else:
            self._count("cancelled", True)

    def _count(self, name: str, is_same: bool) -> None:
        with self._lock:
            self.counts[name] += 1
            self.counts["different"] += not is_same


def from_threads(work, count: int, threads: int) -> None:
    """Do work of so many numbers from threads."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(count)))


def from_asyncio(work, count: int, threads: int) -> None:
    """Do work of so many numbers from asyncio, by `to_thread`, so many at a time."""

    async def gather() -> None:
        free = asyncio.Semaphore(threads)

        async def one(number: int) -> None:
            async with free:
                await asyncio.to_thread(work, number)

        await asyncio.gather(*map(one, range(count)))

    asyncio.run(gather())


def left_over() -> dict[str, float]:
    """Return the process's memory in MB, and its threads of hfpipe."""
    gc.collect()
    ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("hfpipe-")]
    return {"MB": round(psutil.Process().memory_info().rss / 1e6), "threads": len(ours)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="A voice-qa repo; by default the offline one.")
    parser.add_argument("--precision", default="auto", help="In which the models compute.")
    parser.add_argument("--threads", type=int, default=8, help="That call; half as many stream.")
    parser.add_argument("--calls", type=int, default=25, help="Of each thread.")
    parser.add_argument("--streams", type=int, default=10, help="Of each thread that streams.")
    options = parser.parse_args()
    callers = Callers(hfpipe.load(options.model or hfpipe.offline_repo(), precision=options.precision))
    calls, streams = options.threads * options.calls, options.threads // 2 * options.streams
    from_threads(callers.call, options.threads, options.threads)  # so that what is kept for good is there
    rounds = {"begin": left_over()}
    for name, run in {"threads": from_threads, "asyncio": from_asyncio}.items():
        start = time.perf_counter()
        run(callers.call, calls, options.threads)
        run(callers.stream, streams, options.threads // 2)
        rounds[name] = {"seconds": round(time.perf_counter() - start, 1), **left_over()}
    report = {"machine": machine(), "precision": options.precision, **callers.counts, **rounds}
    print(json.dumps(report, indent=2))
    sys.exit(callers.counts["different"] > 0)


if __name__ == "__main__":
    main()
