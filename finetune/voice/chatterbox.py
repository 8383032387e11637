"""Chatterbox's language model, T3, as a module whose forward pass returns a loss, with LoRA on its layers.

The package's own `T3.loss` isn't it: in chatterbox-tts 0.1.7 it hands logits of shape (rows, tokens, vocabulary) to
`cross_entropy`, which takes the vocabulary second and raises, and it compares each position with its own input instead
of with the token that comes next.
"""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.tts_chatterbox import ChatterboxTTS

TEXT_WEIGHT = 0.01  # of the loss of the text, which T3 never writes; coqui-tts has it so for XTTS
NEUTRAL = 0.5  # exaggeration of speech as it is read
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


class ChatterboxModel(nn.Module):
    """T3, of which a training needs the loss.

    Args:
        t3: the package's `T3`.
    """

    def __init__(self, t3):
        super().__init__()
        self.t3 = t3

    def forward(self, text, codes, speakers, prompts, exaggeration) -> dict[str, torch.Tensor]:
        """Return `loss`, and its parts, `text_loss` and `audio_loss`, means over the targets of the batch.

        Rows of different lengths are padded at their ends, where no other token sees it; the package's own forward
        pass pads the text, before the audio.

        Args:
            text: token ids between start and stop, a list of int64 (tokens,).
            codes: audio tokens between start and stop, a list of int64 (codes,).
            speakers: embeddings of the voices, float32 of shape (rows, 256).
            prompts: audio tokens of the voices, int64 of shape (rows, 150), or fewer for short references.
            exaggeration: float32 of shape (rows,).
        """
        rows = [self._embed(*row) for row in zip(text, codes, speakers, prompts, exaggeration, strict=True)]
        embeds = pad_sequence(rows, batch_first=True)
        hidden = self.t3.tfmr(inputs_embeds=embeds, use_cache=False).last_hidden_state
        said, heard = [], []
        for states, embed, words, audio in zip(hidden, rows, text, codes, strict=True):
            start = len(embed) - len(audio)
            said.append(states[start - len(words) : start - 1])
            heard.append(states[start : len(embed) - 1])
        text_loss = cross_entropy(self.t3.text_head(torch.cat(said)).float(), _targets(text))
        audio_loss = cross_entropy(self.t3.speech_head(torch.cat(heard)).float(), _targets(codes))
        return {"loss": TEXT_WEIGHT * text_loss + audio_loss, "text_loss": text_loss, "audio_loss": audio_loss}

    def _embed(self, text, codes, speaker, prompt, exaggeration) -> torch.Tensor:
        """Return what T3 hears of a row: its voice, its text and its audio, float32 of shape (positions, width)."""
        from chatterbox.models.t3.modules.cond_enc import T3Cond

        voice = T3Cond(speaker[None], cond_prompt_speech_tokens=prompt[None], emotion_adv=exaggeration.view(1, 1, 1))
        embeds, _ = self.t3.prepare_input_embeds(t3_cond=voice, text_tokens=text[None], speech_tokens=codes[None])
        return embeds[0]


def encode_clip(part: ChatterboxTTS, audio: Path, text: str, language: str, reference: Path) -> dict:
    """Return the arguments of `ChatterboxModel.forward` for one clip; `collate` joins several.

    Args:
        part: the voice to train.
        audio: the recording that the model learns to say.
        text: what is said in it, as inference reads it (`speakable` first).
        reference: another recording of the speaker, from which the voice is heard.
    """
    hp, voice = part.model.t3.hp, part.resolve_voice(reference).tensors
    codes = part.encode_audio(*load_audio(audio))
    ends = [codes.new_tensor([token]) for token in (hp.start_speech_token, hp.stop_speech_token)]
    return {
        "text": part.encode(text, language),
        "codes": torch.cat([ends[0], codes, ends[1]]),
        "speakers": voice["speaker_emb"][0],
        "prompts": voice["cond_prompt_speech_tokens"][0],
        "exaggeration": torch.tensor(NEUTRAL),
    }


def collate(clips: list[dict]) -> dict:
    """Join clips of `encode_clip` into the arguments of `ChatterboxModel.forward`."""
    return {name: [clip[name] for clip in clips] for name in clips[0]}


def add_lora(t3, rank: int = 32, alpha: int = 64, dropout: float = 0.05, targets=TARGETS) -> PeftModel:
    """Wrap T3 with LoRA matrices on its attention, the only parameters that will be trained.

    Raises:
        ValueError: a target isn't one of the linear layers.
    """
    model = ChatterboxModel(t3)
    layers = {name.rpartition(".")[2] for name, layer in t3.tfmr.named_modules() if isinstance(layer, nn.Linear)}
    if not targets or not set(targets) <= layers:
        raise ValueError(f"the targets are {', '.join(targets)}; valid are {', '.join(sorted(layers))}.")
    where = rf"t3\.tfmr\.layers\..*\.({'|'.join(targets)})"
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=where))


def merge_into(t3, adapter: Path) -> None:
    """Add what an adapter learned to the weights of a T3, in place.

    Raises:
        ValueError: the adapter doesn't fit.
    """
    try:
        PeftModel.from_pretrained(ChatterboxModel(t3), str(adapter)).merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the adapter in {adapter} doesn't fit this Chatterbox ({str(error)[:300]}).") from error


def _targets(tokens: list[torch.Tensor]) -> torch.Tensor:
    """Return the tokens that come next, of all rows in a line."""
    return torch.cat([row[1:] for row in tokens])
