"""Write what a training gave: JSON for programs, Markdown with plots for readers."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import torch

from .normalise import normaliser
from .score import improvement, normalised_counts

PACKAGES = ("torch", "transformers", "peft", "datasets", "jiwer", "num2words")
WORSE = 1.0  # points of the word error rate that count as forgetting


def make_report(options, sets, before: dict, after: dict, history: list[dict]) -> dict:
    """Puts everything known of a training together, as plain Python ready for JSON.

    `gain` says, for each thing judged, how many points of the word error rate were gained, with an interval; a test
    is called "better" only where the interval leaves zero out.
    """
    rows = {"test": sets.test, "other language": sets.other, "long audio": sets.long}
    gain = {}
    for name, found in after.items():
        normalise = normaliser(found["language"])
        counts = [normalised_counts(rows[name], side[name]["heard"], normalise) for side in (before, after)]
        gain[name] = improvement(*counts)
    transcripts = [
        {"audio": row.name, "sentence": row.sentence, "before": old, "after": new}
        for row, old, new in zip(sets.test, before["test"]["heard"], after["test"]["heard"], strict=True)
    ]
    return {
        "options": {name: _without_folder(value) for name, value in dataclasses.asdict(options).items()},
        "data": {name: {**r.as_dict(), "problems": len(r.problems)} for name, r in sets.reports.items()},
        "rows": {"train": len(sets.train), "validation": len(sets.validation), "test": len(sets.test)},
        "before": {name: _without_heard(found) for name, found in before.items()},
        "after": {name: _without_heard(found) for name, found in after.items()},
        "gain": gain,
        "history": history,
        "machine": machine(),
        "transcripts": transcripts,
    }


def write_report(report: dict, folder: Path) -> None:
    """Writes `report.json`, `report.md` and its plots into a folder."""
    write_json(folder / "report.json", report)
    plots = _plot(report, folder)
    write_text(folder / "report.md", markdown(report, plots))


def markdown(report: dict, plots: list[str]) -> str:
    """Writes a training's report for a reader."""
    options, after, before = report["options"], report["after"]["test"], report["before"]["test"]
    lines = [
        f"# {report['base']['base_model'] or options['model']}, fine-tuned on {Path(options['train']).name}",
        "",
        verdict(report),
        "",
        "| test | before | after |",
        "|---|---:|---:|",
    ]
    for key, name in _measures(after):
        lines.append(f"| {name} | {_figure(before, key)} | {_figure(after, key)} |")
    lines += ["", "Error rates in percent. The interval is a bootstrap over utterances (1000 resamples, 95 %)."]
    if len(report["gain"]) > 1:
        lines += ["", "## What it might have forgotten", "", "| | before | after | |", "|---|---:|---:|---|"]
        for name in report["gain"]:
            if name != "test":
                old, new = report["before"][name]["wer"], report["after"][name]["wer"]
                words = f"worse by {new - old:.1f} points" if new - old > WORSE else "kept"
                lines.append(f"| {name}, WER | {old:.1f} | {new:.1f} | {words} |")
    for column, groups in after["by"].items():
        lines += [
            "",
            f"## By {column}",
            "",
            f"| {column} | WER before | WER after | utterances |",
            "|---|---:|---:|---:|",
        ]
        for name, group in groups.items():
            old = before["by"].get(column, {}).get(name, {}).get("wer", float("nan"))
            lines.append(f"| {_cell(name)} | {old:.1f} | {group['wer']:.1f} | {group['utterances']} |")
    lines += ["", "## The worst utterances", "", "| audio | said | heard | errors |", "|---|---|---|---:|"]
    lines += [
        f"| {_cell(Path(str(w['audio'])).name)} | {_cell(w['sentence'])} | {_cell(w['heard'])} | {w['errors']} |"
        for w in after["worst"]
    ]
    lines += ["", *(f"![{name}]({name})" for name in plots)]
    lines += ["", "## Data", "", "| set | rows | used | hours | dropped |", "|---|---:|---:|---:|---|"]
    for name, data in report["data"].items():
        dropped = ", ".join(f"{count} {kind}" for kind, count in data["dropped"].items()) or "none"
        lines.append(f"| {name} | {data['rows']} | {data['kept']} | {data['hours']:.2f} | {dropped} |")
    lines += ["", "## How", "", "```json", json.dumps({**options, **report["machine"]}, indent=2), "```"]
    return "\n".join(lines) + "\n"


def verdict(report: dict) -> str:
    """Says in one sentence whether the test got better, by its interval."""
    gain, before, after = report["gain"]["test"], report["before"]["test"]["wer"], report["after"]["test"]["wer"]
    change = {"better": "It is better", "worse": "It is worse", "no better": "It is no better"}[gain["verdict"]]
    return (
        f"**{change}**: the word error rate on {report['after']['test']['utterances']} test utterances goes from "
        f"{before:.1f} % to {after:.1f} %, a gain of {gain['points']:.1f} points (95 % interval {gain['low']:.1f} to "
        f"{gain['high']:.1f})."
    )


def machine() -> dict:
    """Names what the report was made with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return {
        "made": datetime.date.today().isoformat(),
        "device": device,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write_json(path: Path, value) -> None:
    """Writes plain Python as JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1))


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _without_folder(value):
    """Shortens a path of this machine to its last part: a report may be pushed."""
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value.rstrip("/"))
    return value


def _without_heard(found: dict) -> dict:
    return {name: value for name, value in found.items() if name != "heard"}


def _measures(found: dict) -> list[tuple[str, str]]:
    names = {
        "wer": "WER, normalised",
        "wer_interval": "its 95 % interval",
        "wer_without_accents": "WER, normalised, accents forgiven",
        "wer_raw": "WER, raw",
        "cer": "CER, normalised",
        "cer_raw": "CER, raw",
        "substitutions": "words substituted",
        "deletions": "words deleted",
        "insertions": "words inserted",
        "rtf": "real-time factor",
    }
    return [(key, name) for key, name in names.items() if key in found]


def _figure(found: dict, key: str) -> str:
    value = found[key]
    if isinstance(value, list):
        return " to ".join(f"{end:.1f}" for end in value)
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _plot(report: dict, folder: Path) -> list[str]:
    """Draws the loss and the validation's error rate by step, and the test before and after."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for key, name, axis in (("loss", "training loss", left), ("eval_wer", "validation WER, %", left.twinx())):
        points = [(entry["step"], entry[key]) for entry in report["history"] if key in entry]
        if points:
            axis.plot(*zip(*points, strict=True), marker=".", color="C0" if key == "loss" else "C1")
        axis.set_ylabel(name, color="C0" if key == "loss" else "C1")
    left.set_xlabel("step")
    names = list(report["after"])
    for shift, side in ((-0.2, "before"), (0.2, "after")):
        rates = [report[side][name]["wer"] for name in names]
        spans = [report[side][name]["wer_interval"] for name in names]
        errors = [[max(0, rate - low) for rate, (low, _) in zip(rates, spans, strict=True)],
                  [max(0, high - rate) for rate, (_, high) in zip(rates, spans, strict=True)]]  # fmt: skip
        right.bar([i + shift for i in range(len(names))], rates, 0.4, yerr=errors, capsize=3, label=side)
    right.set_xticks(range(len(names)), names)
    right.set_ylabel("WER, %")
    right.legend()
    partial = folder / f".report.{os.getpid()}.png"
    figure.savefig(partial, dpi=120)
    pyplot.close(figure)
    os.replace(partial, folder / "report.png")
    return ["report.png"]


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
