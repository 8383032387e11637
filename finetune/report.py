"""Write the report of a training as JSON, and as Markdown with plots."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import torch

from hfpipe.pipeline.files import atomic_write, write_text

from .check import explain_shared
from .markdown import markdown_table
from .normalize import normalizer
from .score import improvement, normalized_counts

MEASURES = {  # key of the scores: its name in the report
    "wer": "WER, normalized",
    "wer_interval": "its 95 % interval",
    "wer_without_accents": "WER, normalized, ignoring accents",
    "wer_raw": "WER, raw",
    "cer": "CER, normalized",
    "cer_raw": "CER, raw",
    "substitutions": "words substituted",
    "deletions": "words deleted",
    "insertions": "words inserted",
    "rtf": "real-time factor",
}
PACKAGES = ("torch", "transformers", "peft", "datasets", "jiwer", "num2words")
FORGOTTEN = 1.0  # percentage points of word error rate above which a loss is reported as forgetting


def make_report(options, splits, before: dict, after: dict, history: list[dict]) -> dict:
    """Return the report of a training as JSON-serializable Python.

    Its `gain` has the reduction of the word error rate for each evaluated set, as `improvement` returns it.

    Args:
        before, after: the results of `evaluate_splits` before and after the training.
        history: the trainer's log.
    """
    rows = {"test": splits.test, "other language": splits.other, "long audio": splits.long}
    gain = {}
    for name, scores in after.items():
        normalize = normalizer(scores["language"])
        old, new = (normalized_counts(rows[name], side[name]["heard"], normalize) for side in (before, after))
        gain[name] = improvement(old, new)
    transcripts = [
        {"audio": row.name, "sentence": row.sentence, "before": old, "after": new}
        for row, old, new in zip(splits.test, before["test"]["heard"], after["test"]["heard"], strict=True)
    ]
    return {
        "options": {name: _without_folder(value) for name, value in dataclasses.asdict(options).items()},
        "data": {name: {**r.as_dict(), "problems": len(r.problems)} for name, r in splits.reports.items()},
        "shared": splits.shared(),
        "rows": {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
        "before": {name: _without_transcripts(scores) for name, scores in before.items()},
        "after": {name: _without_transcripts(scores) for name, scores in after.items()},
        "gain": gain,
        "history": history,
        "machine": machine(),
        "transcripts": transcripts,
    }


def write_report(report: dict, folder: Path) -> None:
    """Write `report.json`, `report.md` and its plot into a folder."""
    write_json(folder / "report.json", report)
    plots = _plot(report, folder)
    write_text(folder / "report.md", markdown(report, plots))


def markdown(report: dict, plots: list[str]) -> str:
    """Return the report as Markdown, with the plots at the given paths."""
    options, after, before = report["options"], report["after"]["test"], report["before"]["test"]
    title = f"# {report['base']['base_model'] or options['model']}, fine-tuned on {Path(options['train']).name}"
    sides = ("before", "after")
    measures = [(name, _figure(before, key), _figure(after, key)) for key, name in MEASURES.items() if key in after]
    lines = [title, "", verdict(report), "", *markdown_table(("test", *sides), measures, right=sides)]
    lines += ["", "Error rates in percent. The interval is a bootstrap over utterances (1000 resamples, 95 %)."]
    if len(report["gain"]) > 1:
        rows = [_forgetting(report, name) for name in report["gain"] if name != "test"]
        lines += ["", "## Forgetting", "", *markdown_table(("", *sides, ""), rows, right=sides)]
    for column, groups in after["by"].items():
        header = (column, "WER before", "WER after", "utterances")
        rows = []
        for name, group in groups.items():
            old = before["by"].get(column, {}).get(name, {}).get("wer", float("nan"))
            rows.append((name, f"{old:.1f}", f"{group['wer']:.1f}", group["utterances"]))
        lines += ["", f"## By {column}", "", *markdown_table(header, rows, right=header[1:])]
    header = ("audio", "reference", "transcript", "errors")
    rows = [(Path(str(w["audio"])).name, w["sentence"], w["heard"], w["errors"]) for w in after["worst"]]
    lines += ["", "## The worst utterances", "", *markdown_table(header, rows, right=("errors",))]
    lines += ["", *(f"![{name}]({name})" for name in plots)]
    lines += ["", "## Data", "", *_data_table(report["data"])]
    lines += [
        f"\n{name}: {note} ({count} rows)." for name, d in report["data"].items() for note, count in d["notes"].items()
    ]
    lines += [f"\n{name}: {explain_shared(shared)}" for name, shared in report["shared"].items()]
    lines += ["", "## Options and environment", ""]
    lines += ["```json", json.dumps({**options, **report["machine"]}, indent=2), "```"]
    return "\n".join(lines) + "\n"


def verdict(report: dict) -> str:
    """Return one sentence on whether the test's word error rate improved, judged by its interval."""
    gain, before, after = report["gain"]["test"], report["before"]["test"]["wer"], report["after"]["test"]["wer"]
    change = {"better": "It is better", "worse": "It is worse", "no better": "It is no better"}[gain["verdict"]]
    return (
        f"**{change}**: the word error rate on {report['after']['test']['utterances']} test utterances goes from "
        f"{before:.1f} % to {after:.1f} %, a gain of {gain['points']:.1f} points (95 % interval {gain['low']:.1f} to "
        f"{gain['high']:.1f})."
    )


def machine() -> dict:
    """Return the date, the device and the versions that a report was made with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return {
        "made": datetime.date.today().isoformat(),
        "device": device,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write_json(path: Path, value) -> None:
    """Write JSON-serializable Python to a file that appears whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1))


def _without_folder(value):
    """Shorten an absolute path to its last part, since a report may be published."""
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value.rstrip("/"))
    return value


def _without_transcripts(scores: dict) -> dict:
    return {name: value for name, value in scores.items() if name != "heard"}


def _forgetting(report: dict, name: str) -> tuple[str, str, str, str]:
    old, new = report["before"][name]["wer"], report["after"][name]["wer"]
    change = f"worse by {new - old:.1f} points" if new - old > FORGOTTEN else "kept"
    return f"{name}, WER", f"{old:.1f}", f"{new:.1f}", change


def _data_table(data: dict) -> list[str]:
    """Return the lines of a table of the rows that each set has, uses and drops."""
    rows = []
    for name, counts in data.items():
        dropped = ", ".join(f"{count} {kind}" for kind, count in counts["dropped"].items()) or "none"
        rows.append((name, counts["rows"], counts["kept"], f"{counts['hours']:.2f}", dropped))
    header = ("set", "rows", "used", "hours", "dropped")
    return markdown_table(header, rows, right=("rows", "used", "hours"))


def _figure(scores: dict, key: str) -> str:
    value = scores[key]
    if isinstance(value, list):
        return " to ".join(f"{end:.1f}" for end in value)
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _plot(report: dict, folder: Path) -> list[str]:
    """Plot the loss and the validation WER by step, and the WER before and after; return the names of the files."""
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
    with atomic_write(folder / "report.png") as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    return ["report.png"]
