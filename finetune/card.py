"""Write the model card of a fine-tuned Whisper, with its error rates where the Hub shows them."""

import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hfpipe.pipeline.files import write_text

from .check import explain_shared
from .data import is_table
from .report import verdict
from .whisper import locate

OPENAI = ("openai/whisper-", "apache-2.0")  # prefix of the Hub ids of OpenAI's Whispers, and their license
TASK = "automatic-speech-recognition"

BODY = """
# {title}

{model} fine-tuned for `{language}` with hfpipe's `finetune`: method {method}, {rows} rows, {hours:.2f} hours.

{verdict}

{shared}

{limits}

```python
from transformers import pipeline

asr = pipeline("automatic-speech-recognition", model="{name}")
print(asr("audio.wav")["text"])
```

All scores, the worst utterances and the options are in [report.md](report.md); the dropped rows are in
[data.md](data.md).
"""


def write_card(report: dict, folder: Path) -> None:
    """Write `README.md`, with the test's error rates in the Hub's `model-index` metadata."""
    write_text(folder / "README.md", str(make_card(report, folder.name)))


def describe_base(model: str) -> dict:
    """Return the `base_model` (a Hub id) and `license` of the model that was fine-tuned; None if unknown.

    Args:
        model: a folder, whose model card is read, or a Hub id.
    """
    name = model.partition("@")[0]
    if Path(name).is_dir():
        cards = (Path(name, card) for card in ("WHISPER.md", "README.md"))  # in a voice-qa repo, the Whisper's own
        card = next((card for card in cards if card.is_file()), None)
        data = ModelCard.load(card).data if card else None
        return {"base_model": getattr(data, "base_model", None), "license": getattr(data, "license", None)}
    if name.startswith(OPENAI[0]):
        return {"base_model": name, "license": OPENAI[1]}
    try:
        return {"base_model": name, "license": ModelCard.load(name).data.license}
    except (OSError, ValueError):  # the Hub's errors are OSErrors
        return {"base_model": name, "license": None}


def public_name(model: str) -> str:
    """Return a model's name as others know it: its Hub id where it is known, else the name of its folder."""
    located = locate(model).partition("@")[0]
    if not Path(located).exists():
        return located
    in_cache = re.search(
        r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\]", os.path.join(os.path.abspath(located), "")
    )
    if in_cache:
        return f"{in_cache[1]}/{in_cache[2]}"
    if model == "offline":
        return describe_base(located)["base_model"] or Path(located).name
    return Path(located).absolute().name


def make_card(report: dict, name: str) -> ModelCard:
    """Return the model card for the report of a training.

    Args:
        name: of the model.
    """
    options, scores = report["options"], report["after"]["test"]
    trained_on = options["train"].partition(":")[0]
    dataset = {"task_type": TASK, **_dataset(options["test"] or options["train"])}
    results = [
        EvalResult(metric_type=kind, metric_name=label, metric_value=round(scores[key], 2), **dataset)
        for kind, label, key in (
            ("wer", "WER, normalized", "wer"),
            ("wer", "WER, raw", "wer_raw"),
            ("cer", "CER, normalized", "cer"),
        )
    ]
    data = ModelCardData(
        language=options["language"],
        license=report["base"]["license"],
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=report["base"]["base_model"],
        datasets=[trained_on] if _is_hub_id(trained_on) and not is_table(trained_on) else None,
        metrics=["wer", "cer"],
        tags=["whisper", "hfpipe"],
        model_name=name,
        eval_results=results,
        ignore_metadata_errors=False,
    )
    used = report["data"]["train"]
    body = BODY.format(
        title=name,
        name=options["push_to_hub"] or name,
        model=report["base"]["base_model"] or options["model"],
        language=options["language"],
        method=options["method"],
        rows=report["rows"]["train"] or used["rows"],
        hours=used["hours"],
        verdict=verdict(report),
        shared="\n".join(f"The {name}: {explain_shared(shared)}" for name, shared in report["shared"].items()),
        limits=_limits(report),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _dataset(source: str) -> dict:
    """Return the test set as the Hub's `model-index` describes it."""
    name, config, split = (*source.split(":"), "", "")[:3]
    if is_table(source) or not _is_hub_id(name):
        return {"dataset_name": Path(name).name, "dataset_type": "csv", "dataset_split": "test"}
    return {
        "dataset_name": name,
        "dataset_type": name,
        "dataset_config": config or None,
        "dataset_split": split or "train",
    }


def _limits(report: dict) -> str:
    """Return the sentence of the card on what the model may have forgotten."""
    names = [name for name in report["gain"] if name != "test"]
    if not names:
        return "Whether it has forgotten other languages or long audio was not measured."
    rates = [
        f"{name}: {report['before'][name]['wer']:.1f} % before, {report['after'][name]['wer']:.1f} % after"
        for name in names
    ]
    return f"Word error rates of what it may have forgotten: {'; '.join(rates)}."


def _is_hub_id(model: str) -> bool:
    if "/" not in model or Path(model).exists():  # a Hub id has an owner; a bare name is a folder or the end of a path
        return False
    try:
        validate_repo_id(model.partition("@")[0])
    except HFValidationError:
        return False
    return True
