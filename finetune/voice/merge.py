"""Merge a LoRA adapter into its XTTS: the result is an ordinary XTTS folder, which `tts=` takes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel

from hfpipe.pipeline.tts_xtts_checkpoint import CONFIG, quietly, read_speakers, write_checkpoint

from .xtts import VoiceModel, find_weights, load_xtts

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def merge_voice(
    adapter: str | os.PathLike,
    out: str | os.PathLike,
    model: str | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Merge a LoRA adapter into the XTTS that it was trained on, in float32, and write an ordinary XTTS folder.

    Args:
        adapter: the `adapter` folder of a training, or the training's own folder.
        out: a folder that isn't an XTTS yet.
        model: the XTTS; None is the one that the adapter names.
        say: called with a description of each stage as it begins.

    Raises:
        FileNotFoundError: there is no such adapter or XTTS. OSError: the Hub can't be reached.
        ValueError: the adapter doesn't fit the XTTS, or `out` holds one already.
    """
    adapter, out = Path(adapter), Path(out)
    if not (adapter / ADAPTER).is_file():
        adapter = adapter / "adapter"
    for name in (ADAPTER, ADAPTER_CONFIG):
        if not (adapter / name).is_file():
            raise FileNotFoundError(
                f"there is no {name} in {adapter.parent} or its folder adapter: give the folder that "
                "`hfpipe finetune voice --method lora` wrote, or its adapter folder."
            )
    if (out / CONFIG).exists():
        raise ValueError(f"--out {out} holds a model already ({CONFIG}); give another folder.")
    base = model or json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    say(f"Loading {base}")
    folder = find_weights(str(base))
    xtts = load_xtts(folder)
    say(f"Merging {adapter}")
    merge_into(xtts, adapter)
    write_checkpoint(xtts, read_speakers(folder), out)
    return out


def merge_into(xtts, adapter: Path) -> None:
    """Add what an adapter learned to the weights of coqui's `Xtts`, in place.

    Raises:
        ValueError: the adapter doesn't fit.
    """
    try:
        with quietly():
            wrapped = PeftModel.from_pretrained(VoiceModel(xtts.gpt, dropout=0.0), str(adapter))
            wrapped.merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the adapter in {adapter} doesn't fit this XTTS ({str(error)[:300]}): give the XTTS it was trained on."
        ) from error
