"""Train low-rank adapters instead of a Whisper's own weights."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from .options import Options

# A model between the base and the trained weights forgets less, and is hardly worse on the new data: WiSE-FT
# (Wortsman et al. 2022, arXiv:2109.01903).
LORA_SHARE = 0.65


def add_lora(whisper, options: Options) -> PeftModel:
    """Wrap a Whisper with LoRA matrices, the only parameters that will be trained.

    Raises:
        ValueError: a target isn't one of the model's linear layers.
    """
    targets = [target.strip() for target in options.lora_targets.split(",") if target.strip()]
    layers = {name.rpartition(".")[2] for name, layer in whisper.named_modules() if isinstance(layer, torch.nn.Linear)}
    if not targets or not set(targets) <= layers - {"proj_out"}:
        valid = ", ".join(sorted(layers - {"proj_out"}))
        raise ValueError(f"--lora-targets is {options.lora_targets!r}; valid are {valid}, separated by commas.")
    # Without a task_type: peft's sequence-to-sequence wrapper passes inputs that Whisper doesn't accept.
    return get_peft_model(
        whisper,
        LoraConfig(
            r=options.lora_rank,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=targets,
        ),
    )


def scale_lora(model: PeftModel) -> None:
    """Scale the trained update to `LORA_SHARE` of it, by scaling the second matrix of each pair."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.mul_(LORA_SHARE)
