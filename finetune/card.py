"""Write a trained Whisper's model card, with its word and letter error rates where the Hub shows them."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .data import is_table
from .report import verdict, write_text

LICENCE = "apache-2.0"  # of OpenAI's Whispers on the Hub
TASK = "automatic-speech-recognition"

BODY = """
# {title}

{model} fine-tuned for `{language}` with hfpipe's `finetune`: method {method}, {rows} rows, {hours:.2f} hours.

{verdict}

{limits}

```python
from transformers import pipeline

asr = pipeline("automatic-speech-recognition", model="{name}")
print(asr("audio.wav")["text"])
```

All figures, the worst utterances and the options are in [report.md](report.md); what was dropped from the data is in
[data.md](data.md).
"""


def write_card(report: dict, folder: Path) -> None:
    """Writes `README.md`: what was trained on what, and the test's error rates as the Hub's `model-index`."""
    write_text(folder / "README.md", str(make_card(report, folder.name)))


def make_card(report: dict, name: str) -> ModelCard:
    """Makes the model card of a training's report.

    Args:
        name: what the model is called.
    """
    options, found = report["options"], report["after"]["test"]
    on_hub = not is_table(options["train"])
    test = options["test"] or options["train"]
    parts = (*test.split(":"), "", "")[:3]
    dataset = {
        "task_type": TASK,
        "dataset_name": parts[0] if not is_table(test) else Path(test).name,
        "dataset_type": parts[0] if not is_table(test) else "csv",
        "dataset_config": (parts[1] or None) if not is_table(test) else None,
        "dataset_split": (parts[2] or None) if not is_table(test) else "test",
    }
    results = [
        EvalResult(metric_type=kind, metric_name=label, metric_value=round(found[key], 2), **dataset)
        for kind, label, key in (
            ("wer", "WER, normalised", "wer"),
            ("wer", "WER, raw", "wer_raw"),
            ("cer", "CER, normalised", "cer"),
        )
    ]
    data = ModelCardData(
        language=options["language"],
        license=LICENCE,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=options["model"] if _is_hub_id(options["model"]) else None,
        datasets=[options["train"].split(":")[0]] if on_hub else None,
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
        model=options["model"] if _is_hub_id(options["model"]) else Path(options["model"]).name,
        language=options["language"],
        method=options["method"],
        rows=report["rows"]["train"] or used["rows"],
        hours=used["hours"],
        verdict=verdict(report),
        limits=_limits(report),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _limits(report: dict) -> str:
    """Says what was looked at for forgetting, and what wasn't."""
    names = [name for name in report["gain"] if name != "test"]
    if not names:
        return "Whether it has forgotten other languages or long audio was not looked at."
    said = [
        f"{name}: {report['before'][name]['wer']:.1f} % before, {report['after'][name]['wer']:.1f} % after"
        for name in names
    ]
    return f"Word error rates of what it might have forgotten: {'; '.join(said)}."


def _is_hub_id(model: str) -> bool:
    if Path(model).exists():
        return False
    try:
        validate_repo_id(model.partition("@")[0])
    except HFValidationError:
        return False
    return True
