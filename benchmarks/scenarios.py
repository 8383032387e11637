"""Run spoken scenarios through the offline models: `python benchmarks/scenarios.py [FILE.yaml] [--repeats N]`.

Each question is synthesized with the offline TTS model, with different noise from the second repeat on, and asked in a
conversation; the spoken answer is transcribed with Whisper. A turn fails in one of these stages: "asr", wrong
transcript; "llm", required words are missing from the answer; "tts", unintelligible speech; "time", too slow;
"history", the history contains text that wasn't played.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # otherwise finetune.py in this folder would shadow the package

import jiwer  # noqa: E402, I001
import numpy as np  # noqa: E402
import yaml  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import hfpipe  # noqa: E402
from finetune.normalize import normalizer, strip_accents  # noqa: E402
from hfpipe.pipeline.asr_whisper import transcribe  # noqa: E402
from hfpipe.pipeline.audio import SAMPLING_RATE, resample  # noqa: E402
from hfpipe.pipeline.text_speakable import speakable  # noqa: E402

SCENARIOS = Path(__file__).with_suffix(".yaml")
MISHEARD = 0.25  # maximum character error rate of Whisper base on the synthesized answer
NOISE = 25  # signal-to-noise ratio in dB
KEYS = {"says", "audio", "silence", "heard", "answer", "within", "refused", "interrupt_after"}


class Failure(NamedTuple):
    """The stage in which a turn failed, and the reason."""

    stage: str
    reason: str


def read_scenarios(path: Path) -> list[dict]:
    """Load scenarios from YAML; raise ValueError if a turn has an unknown key."""
    scenarios = yaml.safe_load(path.read_text(encoding="utf-8"))
    for scenario in scenarios:
        for turn in scenario["turns"]:
            if unknown := turn.keys() - KEYS:
                raise ValueError(f"{scenario['name']} has {sorted(unknown)}; valid is {sorted(KEYS)}.")
            if "audio" in turn:
                turn["audio"] = str(path.parent / turn["audio"])
    return scenarios


def run_scenario(pipe, scenario: dict, repeat: int = 0) -> Failure | None:
    """Run a scenario, and return the first failure, or None."""
    language = scenario.get("language", "es")
    chat = pipe.conversation(language=language)
    for turn in scenario["turns"]:
        failure = run_turn(pipe, chat, turn, ask(pipe, turn, language, repeat), language)
        if failure:
            return failure
    return None


def ask(pipe, turn: dict, language: str, repeat: int) -> str | dict:
    """Return the question of a turn as input of the pipeline."""
    if "audio" in turn:
        return turn["audio"]
    if "silence" in turn:
        return {"array": np.zeros(round(turn["silence"] * SAMPLING_RATE), np.float32), "sampling_rate": SAMPLING_RATE}
    spoken = pipe.tts(turn["says"], language)
    if repeat:
        level = np.sqrt(np.mean(spoken**2)) / 10 ** (NOISE / 20)
        spoken = spoken + np.random.default_rng(repeat).normal(0, level, len(spoken)).astype(np.float32)
    return {"array": spoken, "sampling_rate": pipe.tts.sampling_rate}


def run_turn(pipe, chat, turn: dict, question: str | dict, language: str) -> Failure | None:
    """Ask a question, and check the result stage by stage; return the first failure, or None."""
    stream, sounds, first = chat.stream(question), [], None
    start = time.perf_counter()
    try:
        for event in stream:
            if event.type == "audio":
                first = first or time.perf_counter() - start
                sounds.append(event.audio)
                if len(sounds) == turn.get("interrupt_after"):
                    stream.cancel()
    except Exception as error:
        return None if turn.get("refused", "\0") in str(error) else Failure(_stage(error), str(error))
    if "refused" in turn:
        return Failure("asr", f"wasn't refused, and heard {stream.result['question']!r}")
    result = stream.result
    if missing := missing_words(turn.get("heard", []), result["question"], language):
        return Failure("asr", f"no {missing} in {result['question']!r}")
    if missing := missing_words(turn.get("answer", []), result["answer"], language):
        return Failure("llm", f"no {missing} in {result['answer']!r}")
    if first is None or first > turn["within"]:
        return Failure("time", f"began to sound after {first or float('inf'):.1f} s, not within {turn['within']}")
    if "interrupt_after" in turn:
        kept = chat.history[-1]["content"]
        return None if kept.endswith("…") else Failure("history", f"{kept!r} was interrupted and isn't marked")
    return read_back(pipe, np.concatenate(sounds), result["answer"], language)


def missing_words(wanted: list[str], text: str, language: str) -> str | None:
    """Return the first word that a text lacks, or None; a word may have alternatives, as in "siete|7"."""
    words = set(_plain(text, language).split())
    return next((word for word in wanted if not words & set(_plain(word, language).split())), None)


def read_back(pipe, audio: np.ndarray, answer: str, language: str) -> Failure | None:
    """Transcribe the answer with Whisper, and compare characters, since word boundaries are unreliable."""
    [(heard, _)] = transcribe(pipe.asr, [resample(audio, pipe.tts.sampling_rate, SAMPLING_RATE)], language)
    said = " ".join(speakable(line, language) for line in answer.splitlines())
    wrong = jiwer.cer(_plain(said, language), _plain(heard, language) or "-")
    return None if wrong <= MISHEARD else Failure("tts", f"said {said!r}, and Whisper heard {heard!r}")


def _plain(text: str, language: str) -> str:
    return strip_accents(normalizer(language)(text.replace("|", " ")))


def _stage(error: Exception) -> str:
    notes = " ".join(getattr(error, "__notes__", ()))
    return next((stage for stage in ("asr", "llm", "tts") if repr(stage) in notes), "asr")


def main() -> None:
    """Run all scenarios repeatedly, and print the pass rates and an example of each failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=SCENARIOS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="output file for the results")
    options = parser.parse_args()
    pipe = hfpipe.load(hfpipe.offline_repo())
    scenarios = read_scenarios(options.file)
    outcomes = {scenario["name"]: [] for scenario in scenarios}
    for repeat in range(options.repeats):
        for scenario in scenarios:
            outcomes[scenario["name"]].append(run_scenario(pipe, scenario, repeat))
    table = Table("scenario", "passed", "failed in", "for example")
    for name, failures in outcomes.items():
        failed = [failure for failure in failures if failure]
        stages = ", ".join(f"{stage} {count}" for stage, count in Counter(f.stage for f in failed).items())
        passed = f"{len(failures) - len(failed)} of {len(failures)}"
        table.add_row(name, passed, stages, failed[0].reason if failed else "")
    console = Console()
    console.print(table)
    everything = [failure for failures in outcomes.values() for failure in failures]
    console.print(
        f"{everything.count(None)} of {len(everything)} passed: {everything.count(None) / len(everything):.0%}"
    )
    if options.json:
        rows = [{"name": name, "failures": [f and f._asdict() for f in found]} for name, found in outcomes.items()]
        options.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
