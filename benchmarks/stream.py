"""Benchmark the time to first audio of streamed answers: python benchmarks/stream.py [--json FILE]

Streams are compared with a plain call, and with running the stages one after another on the whole input: recognition,
generation, synthesis. All use the offline repo. For answers of 1, 3 and 10 sentences, the LLM is forced to generate
given text: it computes every step as usual, but a logits processor determines the next token.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from measure import Row, report
from transformers import LogitsProcessor

import hfpipe
from hfpipe.pipeline.audio import load_question

QUESTION = Path(__file__).parent.parent / "examples" / "pregunta.wav"
SENTENCES = (
    "La capital de Francia es París, una ciudad a orillas del Sena.",
    "Tiene más de dos millones de habitantes.",
    "Es conocida por sus museos, sus puentes y sus cafés.",
    "La torre Eiffel se construyó a finales del siglo diecinueve.",
    "En el Louvre está la Mona Lisa.",
    "Las calles del centro son antiguas y estrechas.",
    "En primavera florecen los cerezos junto al río.",
    "Muchos estudiantes viven en el Barrio Latino.",
    "El metro llega a todos los rincones de la ciudad.",
    "Desde la colina de Montmartre se ve todo.",
)
COUNTS = (1, 3, 10)


class Dictation(LogitsProcessor):
    """Forces the LLM to generate given tokens."""

    def __init__(self, tokens: list[int]):
        self.tokens, self.prompt = tokens, None

    def __call__(self, input_ids, scores):
        self.prompt = input_ids.shape[1] if self.prompt is None else self.prompt
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt]] = 0.0
        return forced


def dictate(pipe, sentences: int) -> dict:
    """Return the options of a call that force the first `sentences` sentences as its answer."""
    tokens = pipe.llm.tokenizer(" ".join(SENTENCES[:sentences]), add_special_tokens=False).input_ids
    tokens.append(pipe.llm.tokenizer.eos_token_id)
    return {"max_new_tokens": len(tokens) + 1, "generate_kwargs": {"logits_processor": [Dictation(tokens)]}}


def run_plain(pipe, sentences: int) -> tuple[float, float]:
    """Return the seconds until the first audio and the end of a plain call, which are equal."""
    start = time.perf_counter()
    result = pipe(str(QUESTION), **dictate(pipe, sentences))
    assert result["answer"] == " ".join(SENTENCES[:sentences])
    seconds = time.perf_counter() - start
    return seconds, seconds


def run_sequence(pipe, sentences: int) -> tuple[float, float]:
    """Return the seconds until the first audio and the end of the stages in sequence, which are equal."""
    start = time.perf_counter()
    options = dictate(pipe, sentences)
    heard = pipe.asr(load_question(QUESTION), generate_kwargs={"task": "transcribe", "language": "es"})["text"]
    answer = pipe.llm(heard.strip(), max_new_tokens=options["max_new_tokens"], **options["generate_kwargs"])
    pipe.tts(answer)
    seconds = time.perf_counter() - start
    return seconds, seconds


def run_stream(pipe, sentences: int, spans: dict | None = None) -> tuple[float, float]:
    """Return the seconds until the first audio and the end of a stream, and store its spans in `spans`."""
    stream = pipe.stream(str(QUESTION), **dictate(pipe, sentences))
    start, first = time.perf_counter(), None
    for event in stream:
        if event.type == "audio" and first is None:
            first = time.perf_counter() - start
    assert stream.result["answer"] == " ".join(SENTENCES[:sentences])
    if spans is not None:
        spans |= stream.spans
    return first, time.perf_counter() - start


def draw_stages(spans: dict, file: Path) -> None:
    """Plot when each stage ran, as a Gantt chart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots()
    names = {"tts": "TTS", "llm": "LLM", "asr": "ASR"}
    for row, (stage, name) in enumerate(names.items()):
        axes.broken_barh([(start, end - start) for start, end in spans[stage]], (row - 0.4, 0.8), color=f"C{row}")
        axes.text(-0.01, row, name, ha="right", va="center", transform=axes.get_yaxis_transform(), fontsize=8)
    axes.set_yticks([])
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle("A streamed answer of ten sentences", fontsize=9)
    figure.savefig(file, dpi=100)


def main() -> None:
    """Run the benchmark, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="output file for the rows; charts are written next to it")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    pipe = hfpipe.load(hfpipe.offline_repo(), device="cpu")
    runs = {"stream": run_stream, "plain": run_plain, "sequence": run_sequence}
    rows, firsts, spans = [], {}, {}
    for count in COUNTS:
        seconds = {name: [] for name in runs}
        for turn in range(arguments.repeats + 1):
            for name, run in runs.items():
                taken = run(pipe, count, spans) if run is run_stream else run(pipe, count)
                if turn:  # the first is a warm-up
                    seconds[name].append(taken)
        first, total, plain, sequence = (
            median(each[i] for each in seconds[name])
            for name, i in (("stream", 0), ("stream", 1), ("plain", 1), ("sequence", 1))
        )
        what = f"{count} sentence{'s' * (count > 1)}"
        firsts[count] = first
        rows += [
            Row(f"first audio, {what}, against the plain call's total", first, plain, "s"),
            Row(f"first audio, {what}, against the plain sequence", first, sequence, "s"),
            Row(f"the whole answer, {what}, against the plain call", total, plain, "s"),
        ]
    rows.append(Row("first audio, 10 sentences against 1", firsts[10], firsts[1], "s"))
    report("A streamed answer", rows, arguments.json)
    if arguments.json:
        draw_stages(spans, arguments.json.with_suffix(".stages.png"))


if __name__ == "__main__":
    main()
