"""Write the judgement of a voice as JSON, Markdown with a plot, and a page with a player for each recording."""

import html
import json
from pathlib import Path

from hfpipe.pipeline.audio import write_wav
from hfpipe.pipeline.files import atomic_write, write_text

from ..markdown import markdown_table
from ..report import write_json
from .measures import FAILURES

MEASURES = {  # key of a summary: its name and its format
    "wer": ("WER, read back, %", ".1f"),
    "cer": ("CER, read back, %", ".1f"),
    "similarity": ("similarity to the speaker", ".3f"),
    "similarity_to_others": ("similarity to the other speakers", ".3f"),
    "mos": ("MOS, estimated", ".2f"),
    "background": ("of it the background", ".2f"),
    "rtf": ("real-time factor", ".2f"),
    "first_audio": ("first audio, s (median; least to most)", ".2f"),
    "pitch": ("median pitch, Hz", ".0f"),
    "intonation": ("intonation, semitones", ".2f"),
    "rate": ("letters a second", ".1f"),
}
GOAL_NAMES = {"wer": "WER", "similarity": "similarity", "mos": "MOS", "rtf": "real-time factor"}
WORST = 10  # utterances that the report lists
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
article { border-top: 1px solid #8886; padding: .75rem 0; }
h2 { font-size: 1rem; margin: 0 0 .25rem; }
figure { display: inline-block; margin: .25rem 1rem .25rem 0; vertical-align: top; width: 18rem; }
audio { width: 100%; }
figcaption { font-size: .875rem; }
"""


def write_judgement(result: dict, sides: dict, folder: Path) -> None:
    """Write the recordings into `audio/` of a folder, and then `judgement.json`, `.png`, `.html` and `.md`.

    Args:
        result: what `judge_voice` returns.
        sides: the `Spoken` of each voice, by its name in the result.
    """
    for name, spoken in sides.items():
        (folder / "audio" / name).mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(spoken):
            write_wav(folder / recording(name, number), each.samples, each.rate)
    write_json(folder / "judgement.json", result)
    plot_judgement(result, folder / "judgement.png")
    write_text(folder / "judgement.html", judgement_page(result))
    write_text(folder / "judgement.md", judgement_markdown(result))


def recording(side: str, number: int) -> str:
    """Return the path of an utterance's recording below the report's folder."""
    return f"audio/{side}/{number:04d}.wav"


def judgement_markdown(result: dict) -> str:
    """Return the report as Markdown."""
    voices = result["voices"]
    count, sides = voices["model"]["utterances"], list(voices)
    lines = [f"# {result['model']}, judged on {result['test']}", ""]
    if result["gain"]:
        lines += [*(f"- {sentence}" for sentence in verdicts(result)), ""]
    rows = [_goal(name, goal) for name, goal in result["goals"].items()]
    lines += markdown_table(("goal", "", "value", "reached", ""), rows, right=("value",))
    lines += ["", f"## All {count} texts", ""]
    lines += markdown_table(("", *sides), [*_measures(voices), *_failures(voices)], right=sides)
    lines += ["", *_explanations(result), "", "![](judgement.png)"]
    for column, groups in voices["model"]["by"].items():
        lines += ["", f"## By {column}", "", *_by(column, groups, voices)]
    lines += ["", "## The worst", "", *_worst(result["utterances"]["model"])]
    lines += ["", "`judgement.html` plays them all.", "", "## Environment", ""]
    settings = {key: result[key] for key in ("whisper", "language", "speaker", "references")} | result["machine"]
    lines += ["```json", json.dumps(settings, ensure_ascii=False, indent=2), "```"]
    return "\n".join(lines) + "\n"


def verdicts(result: dict) -> list[str]:
    """Return a sentence on each measure that was compared with the base."""
    names = {**GOAL_NAMES, "failed": "share of texts without a failure, %"}
    return [
        f"**{names[name]}: {gain['verdict']}** than {result['base']}, by {gain['points']:+.2f} "
        f"(95 % interval {gain['low']:+.2f} to {gain['high']:+.2f}; above 0 is better)."
        for name, gain in (result["gain"] or {}).items()
    ]


def judgement_page(result: dict) -> str:
    """Return a page, in HTML without scripts, that plays each text as each voice says it, the worst first."""
    utterances = result["utterances"]
    order = sorted(range(len(utterances["model"])), key=lambda i: -_badness(utterances["model"][i]))
    articles = []
    for i in order:
        figures = "".join(_figure(side, i, each[i]) for side, each in utterances.items())
        one = utterances["model"][i]
        who = " · ".join(html.escape(each) for each in (one["speaker"], one["country"]) if each)
        articles.append(f"<article><h2>{html.escape(one['text'])}</h2><p>{who}</p>{figures}</article>")
    title = html.escape(f"{result['model']}, judged on {result['test']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main><h1>{title}</h1>'
        f"<p>The worst first.</p>{''.join(articles)}</main></body></html>\n"
    )


def plot_judgement(result: dict, path: Path) -> None:
    """Plot errors, similarity, opinion score and pitch of each utterance, by voice."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'hfpipe[finetune]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = (("wer", "WER, %"), ("similarity", "similarity"), ("mos", "MOS, estimated"), ("pitch", "pitch, Hz"))
    figure, axes = pyplot.subplots(1, len(shown), figsize=(12, 3.2), layout="constrained")
    for axis, (name, label) in zip(axes, shown, strict=True):
        values = [[u[name] for u in side if u[name] is not None] or [0] for side in result["utterances"].values()]
        axis.boxplot(values, tick_labels=list(result["utterances"]), showmeans=True)
        axis.set_ylabel(label)
        goal = result["goals"].get(name)
        if goal:
            axis.axhline(float(goal["goal"].split()[1]), color="C2", linestyle=":", label=f"goal {goal['goal']}")
            axis.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _goal(name: str, goal: dict) -> tuple:
    tick = "☑" if goal["reached"] == "yes" else "☐"
    return GOAL_NAMES[name], goal["goal"], _number(goal["value"]), tick, goal["reached"]


def _measures(voices: dict) -> list[tuple]:
    return [
        (name, *(_span(summary[key], how) for summary in voices.values()))
        for key, (name, how) in MEASURES.items()
        if any(summary[key] for summary in voices.values())
    ]


def _failures(voices: dict) -> list[tuple]:
    rows = [
        (f"{name}: {meaning}", *(summary["failures"][name] for summary in voices.values()))
        for name, meaning in FAILURES.items()
    ]
    return [("texts with a failure", *(summary["failed"] for summary in voices.values())), *rows]


def _explanations(result: dict) -> list[str]:
    return [
        f"Means with 95 % intervals by a bootstrap over texts. Whisper ({result['whisper']}) makes errors of its own: "
        "compare with the recordings' column. Similarity is the cosine of resemblyzer's embeddings; a recording is "
        "compared with the others of its speaker's reference. MOS is the overall score of DNSMOS P.835, which hears "
        "noise and artifacts, and no accent. These figures are **not comparable with published tables** made with "
        "larger judges, such as Whisper large-v3 and WavLM: compare columns."
    ]


def _by(column: str, groups: dict, voices: dict) -> list[str]:
    header = (column, "texts", "WER %", "similarity", "the recordings'", "MOS", "failed")
    rows = []
    for name, group in groups.items():
        own = voices["recordings"]["by"][column][name]
        alike = (_span(each["similarity"], ".3f") for each in (group, own))
        measures = (_span(group["wer"], ".1f"), *alike)
        rows.append((name, group["utterances"], *measures, _span(group["mos"], ".2f"), group["failed"]))
    return markdown_table(header, rows, right=header[1:])


def _worst(utterances: list[dict]) -> list[str]:
    order = sorted(range(len(utterances)), key=lambda i: -_badness(utterances[i]))[:WORST]
    rows = [
        (f"[{i:04d}]({recording('model', i)})", each["text"], each["heard"], f"{each['wer']:.0f}", _names(each))
        for i in order
        if _badness(each := utterances[i])
    ]
    return markdown_table(("", "text", "heard", "WER %", "failures"), rows, right=("WER %",)) if rows else ["None."]


def _badness(utterance: dict) -> float:
    return 100 * len(utterance["failures"]) + utterance["wer"]


def _names(utterance: dict) -> str:
    return ", ".join(utterance["failures"])


def _figure(side: str, number: int, utterance: dict) -> str:
    alike = "—" if utterance["similarity"] is None else f"{utterance['similarity']:.2f}"
    measured = f"{side}: WER {utterance['wer']:.0f} %, similarity {alike}, MOS {utterance['mos']:.1f}"
    heard = html.escape(utterance["heard"]) or "—"
    failures = f"<br><strong>{_names(utterance)}</strong>" if utterance["failures"] else ""
    label = html.escape(f"{side}: {utterance['text']}", quote=True)
    return (
        f'<figure><audio controls preload="none" src="{recording(side, number)}" aria-label="{label}"></audio>'
        f"<figcaption>{measured}<br>“{heard}”{failures}</figcaption></figure>"
    )


def _span(found: dict | None, how: str) -> str:
    return f"{found['value']:{how}} ({found['low']:{how}}–{found['high']:{how}})" if found else "—"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.3g}"
