"""Write the model card of a voice: its data, the consent, the figures, and the limits of its license."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hfpipe.pipeline.files import write_text
from hfpipe.pipeline.hub_access import XTTS_ID, XTTS_LICENSE_URL
from hfpipe.pipeline.tts_xtts_license import LICENSE_COPY

from ..markdown import markdown_table

LICENSE_NAME = "coqui-public-model-license"

BODY = """
# {name}

{model} fine-tuned for `{language}` with hfpipe's `finetune`: method {method}, {rows} rows, {hours:.2f} hours.

**Consent.** {consent}

Speak only as speakers who agreed to it, and say that the voice is synthetic.

**License.** The weights are derived from {base}, under the [Coqui Public Model License]({license_url})
([copy]({license_copy})): they, and the speech they make, are for non-commercial use only, and whoever passes them on
passes on the license.

## Data

{data}

## Figures

Cross-entropy per audio code and per text token, lower is better. They don't say how the voice sounds: judge it by what
is heard.

{figures}
{read_back}
## Use

```python
import hfpipe

pipe = hfpipe.load(tts="{repo}")
answer = pipe("question.wav", speaker_wav="speaker.wav")
```

{adapter}
"""


def write_card(report: dict, folder: Path) -> None:
    """Write `README.md` for the report of a training."""
    write_text(folder / "README.md", str(make_card(report, folder.name)))


def make_card(report: dict, name: str) -> ModelCard:
    """Return the model card for the report of a training.

    Args:
        name: of the voice.
    """
    options, used = report["options"], report["data"]["train"]
    data = ModelCardData(
        language=options["language"],
        license="other",
        license_name=LICENSE_NAME,
        license_link=XTTS_LICENSE_URL,
        library_name="coqui",
        pipeline_tag="text-to-speech",
        base_model=XTTS_ID,
        tags=["xtts", "voice-cloning", "hfpipe"],
        model_name=name,
    )
    body = BODY.format(
        name=name,
        model=options["model"],
        base=XTTS_ID,
        language=options["language"],
        method=options["method"],
        rows=report["rows"]["train"],
        hours=used["hours"],
        consent=options["consent"],
        license_url=XTTS_LICENSE_URL,
        license_copy=LICENSE_COPY,
        data="\n\n".join(_hours_table(used, kind) for kind in ("speakers", "countries")),
        figures=_figures(report),
        read_back=_read_back(report["history"]),
        repo=options["push_to_hub"] or name,
        adapter="The folder `adapter` holds the LoRA matrices alone." if options["method"] == "lora" else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body}")


def _hours_table(data: dict, kind: str) -> str:
    hours = sorted(data[kind].items(), key=lambda item: -item[1])
    return "\n".join(markdown_table((kind, "hours"), [(who, f"{each:.2f}") for who, each in hours], right=("hours",)))


def _figures(report: dict) -> str:
    """Return the table of the losses before and after."""
    rows = [
        (name, part.removesuffix("_loss"), f"{report['before'][name][part]:.3f}", f"{losses[part]:.3f}")
        for name, losses in report["after"].items()
        for part in ("audio_loss", "text_loss")
    ]
    if not rows:
        return "No rows were held out, so nothing was measured."
    return "\n".join(markdown_table(("set", "loss", "before", "after"), rows, right=("before", "after")))


def _read_back(history: list[dict]) -> str:
    """Return the sentence on what Whisper heard at the last validation, if it listened."""
    heard = [entry for entry in history if "eval_read_back_wer" in entry]
    if not heard:
        return ""
    wer, step = heard[-1]["eval_read_back_wer"], heard[-1]["step"]
    return f"\nOf a few held-out sentences that it spoke at step {step}, Whisper got {wer:.0f} % of the words wrong.\n"
