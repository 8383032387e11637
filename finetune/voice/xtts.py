"""XTTS's language model as a module whose forward pass returns the loss of coqui's trainer."""

import contextlib
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfpipe.pipeline.hub_access import XTTS_ID, split_revision
from hfpipe.pipeline.tts_xtts_checkpoint import XTTS_REVISION, download, missing_file, quietly, read_model

from .options import VoiceOptions

TEXT_WEIGHT, AUDIO_WEIGHT = 0.01, 1.0  # of the losses (coqui-tts, GPTArgs.gpt_loss_text_ce_weight and …_mel_…)
EXTRA_STOPS = 3  # stop tokens after the codes that count as targets too (coqui-tts, GPT.forward)
DVAE, MEL_STATS = "dvae.pth", "mel_stats.pth"  # files of XTTS-v2's repo that only a training needs
CONTENTS = "an XTTS folder holds config.json, vocab.json, and model.safetensors or model.pth."


class VoiceModel(nn.Module):
    """Coqui's `GPT`, of which a training needs the loss.

    Its forward pass is coqui's, with two layers swapped for faster ones that compute the same.

    Args:
        gpt: coqui's `GPT` module; it is changed in place.
        dropout: within GPT-2, at its embeddings, attention and residuals.
    """

    def __init__(self, gpt, dropout: float):
        super().__init__()
        self.gpt = gpt
        if hasattr(gpt, "gpt_inference"):  # for coqui's own generation; its parameters are these ones again
            del gpt.gpt_inference, gpt.gpt.wte
        gpt.gpt.main_input_name = "inputs_embeds"  # it has no embeddings of its own, which checkpointing looks for
        gpt.gpt.config.use_cache = False  # keys and values are of no use in a training
        for block in gpt.gpt.h:
            # GPT-2's gelu_new is the same, in five operations whose results are all kept for the backward pass.
            block.mlp.act = nn.GELU(approximate="tanh")
        for layer in gpt.gpt.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout

    def forward(self, text, text_lengths, codes, code_lengths, references) -> dict[str, torch.Tensor]:
        """Return `loss`, and its parts, `text_loss` and `audio_loss`, means over the targets of the batch.

        Args:
            text: token ids, int64 of shape (rows, tokens), padded.
            text_lengths: int64 of shape (rows,).
            codes: audio codes, int64 of shape (rows, codes), padded.
            code_lengths: int64 of shape (rows,).
            references: mel spectrograms of the voices, float32 of shape (rows, 1, 80, frames).
        """
        samples = code_lengths * self.gpt.code_stride_len
        text_loss, audio_loss, _ = self.gpt(text, text_lengths, codes, samples, cond_mels=references)
        loss = TEXT_WEIGHT * text_loss + AUDIO_WEIGHT * audio_loss
        return {"loss": loss, "text_loss": text_loss, "audio_loss": audio_loss}

    def activation_checkpointing_enable(self, **options) -> None:
        """Compute the blocks again in the backward pass instead of keeping what they computed."""
        self.gpt.gpt.activation_checkpointing_enable(**options)


def count_targets(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return how many targets each of the two losses is a mean over: int64 of shape (2,), text and audio."""
    rows = len(batch["text_lengths"])
    text = batch["text_lengths"].sum() + rows  # the stop token
    return torch.stack([text, batch["code_lengths"].sum() + rows * (EXTRA_STOPS + 1)])


def find_weights(model: str) -> Path:
    """Return the folder of an XTTS checkpoint, downloading it if it is a Hub id.

    Raises:
        FileNotFoundError: there is none, or it lacks a file; the message names it.
        PermissionError: the license wasn't accepted. OSError: the Hub can't be reached.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = download(*_split(model), token=None)
    if missing := missing_file(folder):
        raise FileNotFoundError(f"there is no {missing} in {model}; {CONTENTS} Give another folder.")
    return folder


def find_checkpoint(model: str) -> Path:
    """Return the folder of an XTTS checkpoint that can be trained; raises what `find_weights` does.

    It has dvae.pth as well, the encoder that turns recordings into audio codes.
    """
    folder = find_weights(model)
    if not Path(model).is_dir():
        name, revision = _split(model)
        for file in (DVAE, MEL_STATS):
            with contextlib.suppress(RemoteEntryNotFoundError):
                hf_hub_download(name, file, revision=revision)
    if not (folder / DVAE).is_file():
        raise FileNotFoundError(
            f"there is no {DVAE} in {model}; {CONTENTS} A training needs {DVAE} as well, which turns recordings into "
            f"audio codes: copy it from {XTTS_ID} on the Hub. {MEL_STATS} is taken from the weights if it isn't there."
        )
    return folder


def _split(model: str) -> tuple[str, str | None]:
    """Return the id and the revision of a model on the Hub; XTTS v2 is pinned to a commit."""
    name, revision = split_revision(model)
    return name, revision or (XTTS_REVISION if name == XTTS_ID else None)


def load_xtts(folder: Path):
    """Load coqui's `Xtts`, its weights frozen and in float32; raises what `read_model` does."""
    with quietly():
        return read_model(folder)


def add_training(xtts, options: VoiceOptions, in_16_bits: bool) -> VoiceModel | PeftModel:
    """Return the language model ready to train: with LoRA matrices, or with all of its weights.

    Weights that stay frozen are kept in bfloat16 where the training computes in 16 bits: autocast would round them at
    each step, and keep both copies.

    Raises:
        ValueError: a target isn't one of GPT-2's layers.
    """
    model = VoiceModel(xtts.gpt, options.gpt_dropout)
    if options.method == "full":
        return model.requires_grad_(True)
    if in_16_bits:
        for layer in (*model.gpt.gpt.modules(), model.gpt.text_head, model.gpt.mel_head):
            if isinstance(layer, (Conv1D, nn.Linear)):
                layer.bfloat16()
    return add_lora(model, options)


def add_lora(model: VoiceModel, options: VoiceOptions) -> PeftModel:
    """Wrap the language model with LoRA matrices, the only parameters that will be trained.

    Raises:
        ValueError: a target isn't one of GPT-2's layers.
    """
    targets = [target.strip() for target in options.lora_targets.split(",") if target.strip()]
    layers = {name.rpartition(".")[2] for name, layer in model.gpt.gpt.named_modules() if isinstance(layer, Conv1D)}
    if not targets or not set(targets) <= layers:
        raise ValueError(
            f"--lora-targets is {options.lora_targets!r}; valid are XTTS's {', '.join(sorted(layers))}, separated by "
            "commas (q_proj and the like are layers of other models)."
        )
    with quietly():
        return get_peft_model(
            model,
            LoraConfig(
                r=options.lora_rank,
                lora_alpha=options.lora_alpha,
                lora_dropout=options.lora_dropout,
                target_modules=rf"gpt\.gpt\.h\..*\.({'|'.join(targets)})",
                fan_in_fan_out=True,  # GPT-2's Conv1D holds its weights transposed
            ),
        )
