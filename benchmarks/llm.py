"""Benchmark the LLM against the stock text-generation pipeline in float32: python benchmarks/llm.py [--json FILE]

Both sides have the same weights, get the same prompts (system prompt, examples, question), and generate the same
number of tokens: no answer ends early. Ours gets one question after another, as in use, so that consecutive prompts
share a prefix in the KV cache; results without it are reported separately.
"""

import argparse
import itertools
import os
import time
from pathlib import Path

from measure import Row, interleaved, median, report

import hfpipe  # before torch, so that its idle threads sleep instead of spinning

# isort: split
import torch
from transformers import pipeline
from transformers.utils import logging

from hfpipe.pipeline.llm_answer import default_system_prompt
from hfpipe.pipeline.llm_local import LLM

QUESTIONS = (
    "¿Cuál es la capital de Francia?",
    "¿Quién escribió Cien años de soledad?",
    "¿En qué año llegó Colón a América?",
    "¿Cuál es el río más largo del mundo?",
    "¿De qué color es el cielo?",
)
TOKENS = 40  # of an answer of two sentences
HISTORIES = (1, 40)  # turns


class Counted:
    """Counts the tokens that a model generates, which is one per forward pass."""

    def __init__(self, model):
        self.runs = 0
        model.register_forward_hook(self.add)

    def add(self, *_) -> None:
        """Count a forward pass."""
        self.runs += 1


def history_rows(llm: LLM, stock, repeats: int) -> list[Row]:
    """Measure the time to first token of a question after a number of turns, the last of which was just answered."""
    seconds = {(side, turns): [] for side in ("ours", "stock") for turns in HISTORIES}
    for _, turns in itertools.product(range(repeats), HISTORIES):
        history = [
            {"role": role, "content": QUESTIONS[turn % len(QUESTIONS)]}
            for turn in range(turns)
            for role in ("user", "assistant")
        ]
        answer = llm(QUESTIONS[0], max_new_tokens=8, history=history[:-2])
        history[-2:] = [{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": answer}]
        prompt = llm._prompt(QUESTIONS[1], default_system_prompt("es"), history, "es")
        calls = {
            "ours": lambda: llm(QUESTIONS[1], max_new_tokens=1, history=history),  # noqa: B023
            "stock": lambda: stock(prompt, max_new_tokens=1, add_special_tokens=False),  # noqa: B023
        }
        for side, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[side, turns].append(time.perf_counter() - start)
    first = {key: median(times) for key, times in seconds.items()}
    few, many = HISTORIES
    return [
        *(
            Row(f"LLM first token after {turns} turns", first["ours", turns], first["stock", turns], "s")
            for turns in HISTORIES
        ),
        Row(f"LLM first token after {many} turns against {few}", first["ours", many], first["ours", few], "s"),
    ]


def main() -> None:
    """Run the benchmark, check that both sides generate as many tokens, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder or Hub id of a chat model; default: that of the offline repo")
    parser.add_argument("--json", type=Path, help="output file for the rows; a chart is written next to it")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="number of tokens per answer")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    name = options.model or os.path.join(hfpipe.offline_repo(), "llm")
    llm = LLM.from_pretrained(name, precision=options.precision)
    stock = pipeline("text-generation", model=name, dtype=torch.float32, device="cpu")
    counters = [Counted(llm.model), Counted(stock.model)]
    for model in (llm.model, stock.model):
        model.generation_config.eos_token_id = None  # so that no answer ends early
    questions = itertools.cycle(QUESTIONS)

    def ask_ours(tokens: int, forget: bool = False) -> None:
        if forget:
            llm._prompts.clear()
        llm(next(questions), max_new_tokens=tokens)

    def ask_stock(tokens: int) -> None:
        prompt = llm._prompt(next(questions), default_system_prompt("es"), [], "es")
        stock(prompt, max_new_tokens=tokens, do_sample=False, add_special_tokens=False, return_full_text=False)

    count = options.tokens
    said = []
    for ask, counter in ((ask_ours, counters[0]), (ask_stock, counters[1])):
        ask(1)  # the first call reads the instruction alone
        before = counter.runs
        ask(count)
        said.append(counter.runs - before)
    assert said == [count, count], f"the sides generated {said} tokens, not {count} each"
    calls = {
        "ours": lambda: ask_ours(count),
        "ours, first token": lambda: ask_ours(1),
        "ours, cold": lambda: ask_ours(count, forget=True),
        "ours, cold, first token": lambda: ask_ours(1, forget=True),
        "stock": lambda: ask_stock(count),
        "stock, first token": lambda: ask_stock(1),
    }
    spent = {name: median(times) for name, times in interleaved(calls, options.repeats).items()}
    ours, cold, peer = (spent[name] for name in ("ours", "ours, cold", "stock"))
    first, cold_first, peer_first = (spent[f"{name}, first token"] for name in ("ours", "ours, cold", "stock"))
    rows = [
        Row("LLM tokens/s against the stock text-generation pipeline in float32", count / ours, count / peer, "1/s"),
        Row("LLM tokens/s with nothing kept of an earlier prompt", count / cold, count / peer, "1/s"),
        Row(
            "LLM tokens/s after the first token",
            (count - 1) / (ours - first),
            (count - 1) / (peer - peer_first),
            "1/s",
        ),
        Row("LLM first token", first, peer_first, "s"),
        Row("LLM first token with nothing kept of an earlier prompt", cold_first, peer_first, "s"),
    ]
    rows += history_rows(llm, stock, options.repeats)
    report(f"An answer of {count} tokens, {options.precision}, against float32", rows, options.json)


if __name__ == "__main__":
    main()
