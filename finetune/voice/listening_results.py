"""Analyze the answers to a listening test: opinions and preferences with intervals, and who didn't listen."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hfpipe.pipeline.files import write_text

from ..markdown import markdown_table
from ..report import write_json
from ..score import INTERVAL, RESAMPLES
from .listening import SIDES

FAST = 0.9  # of the sounds' duration: who answers sooner hasn't heard them
SAME_ANSWERS = 8  # all alike, from which on nobody can have listened
SCORES = {"pair": range(-3, 4), "opinion": range(1, 6)}


def analyze_listening(folder: str | os.PathLike) -> dict:
    """Analyze the answers in `answers/` of a listening test's folder, and write `results.json` and `results.md`.

    Listeners who answered half the items sooner than the sounds last, who missed half the anchors (they rated noise 4
    or 5, or didn't prefer the recording without it), or who gave one answer to everything, are named and left out.

    Returns:
        JSON-serializable Python: "listeners", "left_out" (reasons by listener), "mos" of "a", "b" and the "anchor",
        "cmos" (above 0 where b is better) and "preference" (percent for "a", "none" and "b"), each `{"value", "low",
        "high"}` with the 95 % interval of a bootstrap over listeners and items; "cmos_of_all", with those left out;
        "agreement", Krippendorff's ordinal alpha of the "pairs" and of the "opinions", None where it isn't defined;
        and "verdict".

    Raises:
        FileNotFoundError: the folder isn't one that `make_listening_test` made, or there are no answers.
        ValueError: a file isn't answers to this test, or nobody is left.
        ImportError: krippendorff isn't installed.
    """
    folder = Path(folder)
    if not (folder / "key.json").is_file():
        raise FileNotFoundError(f"{folder} has no key.json; give the folder that listening-test made.")
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    answers = _read_answers(folder / "answers", key)
    left_out = {name: reasons for name, given in answers.items() if (reasons := _find_faults(given, key["items"]))}
    kept = {name: given for name, given in answers.items() if name not in left_out}
    if not kept:
        raise ValueError(f"all {len(answers)} listeners are left out: {left_out}. Ask others.")
    pairs, opinions = (_matrix(kept, key["items"], kind) for kind in ("pair", "opinion"))
    results = {
        "a": key["a"],
        "b": key["b"],
        "listeners": len(kept),
        "left_out": left_out,
        "answers": sum(len(given["answers"]) for given in kept.values()),
        "mos": {side: _mean(_of_side(kept, key["items"], side)) for side in (*SIDES, "anchor")},
        "cmos": _mean(pairs),
        "cmos_of_all": _mean(_matrix(answers, key["items"], "pair")),
        "preference": {name: _mean(_share(pairs, name)) for name in ("a", "none", "b")},
        "agreement": {"pairs": _agreement(pairs), "opinions": _agreement(opinions)},
    }
    results["verdict"] = _verdict(results)
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", results_markdown(results))
    return results


def results_markdown(results: dict) -> str:
    """Return the results as Markdown."""
    a, b = results["a"], results["b"]
    rows = [
        (f"MOS of {results.get(side, 'the noisy anchors')}", *_cells(m, ".2f")) for side, m in results["mos"].items()
    ]
    rows.append((f"CMOS, above 0 where {b} is better", *_cells(results["cmos"], "+.2f")))
    rows += [
        (f"% of answers for {results.get(side, 'neither')}", *_cells(share, ".0f"))
        for side, share in results["preference"].items()
    ]
    lines = [f"# Listening test of {a} and {b}", "", f"**{results['verdict']}**", ""]
    lines += markdown_table(("", "mean", "95 % interval"), rows, right=("mean", "95 % interval"))
    alphas = {k: "not defined" if alpha is None else f"{alpha:.2f}" for k, alpha in results["agreement"].items()}
    lines += [
        "",
        f"{results['listeners']} listeners gave {results['answers']} answers. The intervals are a bootstrap over "
        f"listeners and items. Krippendorff's ordinal alpha: {alphas['pairs']} of the pairs, {alphas['opinions']} of "
        "the opinions (1 is perfect agreement, 0 that of chance).",
    ]
    if results["left_out"]:
        everyone = "{value:+.2f} ({low:+.2f} to {high:+.2f})".format(**results["cmos_of_all"])
        lines += ["", f"Left out; with them the CMOS would be {everyone}:", ""]
        lines += [f"- {name}: {', '.join(reasons)}" for name, reasons in results["left_out"].items()]
    return "\n".join(lines) + "\n"


def _read_answers(folder: Path, key: dict) -> dict[str, dict]:
    """Return the content of each file by its listener; of several by one listener, the one with most answers."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} has no answers; put the files that the listeners sent there.")
    found: dict[str, dict] = {}
    for file in files:
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
            _check_answers(given, key)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} isn't answers to this test ({error}). Take it out, or ask for it again."
            ) from error
        name = str(given["listener"])
        if name not in found or len(given["answers"]) > len(found[name]["answers"]):
            found[name] = given
    return found


def _check_answers(given: dict, key: dict) -> None:
    if given["test"] != key["test"]:
        raise ValueError(f"they are to the test {given['test']!r}, this is {key['test']!r}")
    given["listener"]  # a KeyError if there is none
    for answer in given["answers"]:
        if answer["item"] not in key["items"]:
            raise ValueError(f"there is no item {answer['item']!r}")
        kind = key["items"][answer["item"]]["kind"]
        if answer["score"] not in SCORES[kind]:
            raise ValueError(f"the score of a {kind} is {answer['score']!r}")
        if not float(answer["seconds"]) >= 0:
            raise ValueError(f"an answer took {answer['seconds']!r} seconds")
    if not given["answers"]:
        raise ValueError("there are no answers in it")


def _find_faults(given: dict, items: dict) -> list[str]:
    """Return why a listener's answers don't count."""
    answers, faults = given["answers"], []
    shares = [answer["seconds"] / items[answer["item"]]["seconds"] for answer in answers]
    if statistics.median(shares) < FAST:
        faults.append(f"answered after {statistics.median(shares):.0%} of the sounds' duration")
    anchors = [answer for answer in answers if "anchor" in items[answer["item"]]["sides"]]
    missed = sum(_misses(answer, items[answer["item"]]) for answer in anchors)
    if anchors and 2 * missed >= len(anchors):
        faults.append(f"missed {missed} of {len(anchors)} anchors")
    for kind in SCORES:
        scores = [answer["score"] for answer in answers if items[answer["item"]]["kind"] == kind]
        if len(scores) >= SAME_ANSWERS and len(set(scores)) == 1:
            faults.append(f"gave {scores[0]} to each {kind}")
    return faults


def _misses(answer: dict, item: dict) -> bool:
    if item["kind"] == "opinion":
        return answer["score"] >= 4
    return _oriented(answer["score"], item, "anchor") >= 0


def _oriented(score: float, item: dict, side: str) -> float:
    """Return the score of a pair as that of one side against the other; the page gives that of its second sound."""
    return score if item["sides"][1] == side else -score


def _matrix(answers: dict[str, dict], items: dict, kind: str) -> np.ndarray:
    """Return the scores (listeners, items) without anchors, those of pairs for b against a; NaN has no answer."""
    columns = [name for name, item in items.items() if item["kind"] == kind and "anchor" not in item["sides"]]
    return _fill(answers, columns, lambda score, item: _oriented(score, item, "b") if kind == "pair" else score, items)


def _of_side(answers: dict[str, dict], items: dict, side: str) -> np.ndarray:
    """Return the opinions (listeners, items) of one side's recordings."""
    return _fill(answers, [name for name, item in items.items() if item["sides"] == [side]], lambda s, item: s, items)


def _fill(answers: dict[str, dict], columns: Sequence[str], convert, items: dict) -> np.ndarray:
    matrix = np.full((len(answers), len(columns)), np.nan)
    places = {name: column for column, name in enumerate(columns)}
    for row, given in enumerate(answers.values()):
        for answer in given["answers"]:
            if answer["item"] in places:
                matrix[row, places[answer["item"]]] = convert(answer["score"], items[answer["item"]])
    return matrix


def _share(pairs: np.ndarray, name: str) -> np.ndarray:
    """Return 100 where a pair's answer is for a side, or for none, and 0 elsewhere."""
    chosen = {"a": pairs < 0, "none": pairs == 0, "b": pairs > 0}[name]
    return np.where(np.isnan(pairs), np.nan, 100.0 * chosen)


def _mean(matrix: np.ndarray, seed: int = 0) -> dict | None:
    """Return the mean of scores and its interval, by drawing listeners and items, both with replacement.

    Both are samples of what the result is said of: other listeners, other sentences (Owen 2007, the pigeonhole
    bootstrap, which is conservative).
    """
    if not matrix.size or np.isnan(matrix).all():
        return None
    rng, (listeners, items) = np.random.default_rng(seed), matrix.shape
    known, scores = ~np.isnan(matrix), np.nan_to_num(matrix)
    means = []
    for _ in range(RESAMPLES):
        rows = np.bincount(rng.integers(0, listeners, listeners), minlength=listeners)
        columns = np.bincount(rng.integers(0, items, items), minlength=items)
        weight = rows @ known @ columns
        if weight:
            means.append(rows @ scores @ columns / weight)
    low, high = np.percentile(means, INTERVAL).tolist()
    return {"value": float(np.nanmean(matrix)), "low": low, "high": high}


def _agreement(matrix: np.ndarray) -> float | None:
    """Return Krippendorff's ordinal alpha; None if no item has two answers, or all answers are one."""
    try:
        import krippendorff
    except ImportError as error:
        raise ImportError("the listeners' agreement needs krippendorff: pip install 'hfpipe[finetune]'") from error
    answered = matrix[:, (~np.isnan(matrix)).sum(0) >= 2]
    if not answered.size or len(np.unique(answered[~np.isnan(answered)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=answered, level_of_measurement="ordinal"))


def _verdict(results: dict) -> str:
    found, a, b = results["cmos"], results["a"], results["b"]
    if found is None:
        return f"Nobody compared {a} and {b}."
    span = f"CMOS {found['value']:+.2f}, 95 % interval {found['low']:+.2f} to {found['high']:+.2f}"
    if found["low"] > 0:
        return f"{b} is better than {a} ({span})."
    return f"{b} is worse than {a} ({span})." if found["high"] < 0 else f"{b} is no better than {a} ({span})."


def _cells(found: dict | None, how: str) -> tuple[str, str]:
    return (f"{found['value']:{how}}", f"{found['low']:{how}} to {found['high']:{how}}") if found else ("—", "—")
