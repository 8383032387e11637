"""Coqui's own trainer of XTTS's language model, to compare ours with."""

from pathlib import Path

import torch

from finetune.voice.batches import Clip
from finetune.voice.codes import read_waveform

SIZES = (
    "gpt_layers",
    "gpt_n_model_channels",
    "gpt_n_heads",
    "decoder_input_dim",
    "gpt_num_audio_tokens",
    "gpt_start_audio_token",
    "gpt_stop_audio_token",
)


def coqui_trainer(folder: Path, xtts):
    """Return coqui's `GPTTrainer` for a checkpoint with dvae.pth and mel_stats.pth, in training mode.

    Its language model has the weights of `xtts`, and the hyperparameters are those of coqui's recipe for XTTS v2.
    """
    from TTS.tts.layers.xtts.trainer.gpt_trainer import GPTArgs, GPTTrainer, GPTTrainerConfig

    threads = torch.get_num_threads()  # importing coqui's dataset sets one thread
    sizes = {name: xtts.args[name] for name in SIZES}
    files = {"tokenizer_file": "vocab.json", "dvae_checkpoint": "dvae.pth", "mel_norm_file": "mel_stats.pth"}
    paths = {name: str(folder / file) for name, file in files.items()}
    arguments = GPTArgs(gpt_use_perceiver_resampler=True, gpt_use_masking_gt_prompt_approach=False, **sizes, **paths)
    trainer = GPTTrainer(
        GPTTrainerConfig(
            model_args=arguments,
            languages=["en", "es", "zh-cn"],
            optimizer="AdamW",
            optimizer_params={"betas": [0.9, 0.96], "eps": 1e-8, "weight_decay": 1e-2},
            optimizer_wd_only_on_weights=True,
        )
    )
    weights = xtts.gpt.state_dict().items()
    copies = ("gpt_inference.", "gpt.wte.")  # of other weights, which loading an Xtts adds
    trainer.xtts.gpt.load_state_dict({name: weight for name, weight in weights if not name.startswith(copies)})
    trainer.eval()
    trainer.xtts.gpt.train()  # as its on_train_epoch_start does
    torch.set_num_threads(threads)
    return trainer


def coqui_batch(trainer, clips: list[Clip], references: list[torch.Tensor]) -> dict:
    """Return clips as coqui's dataset collates them and its trainer formats them.

    Args:
        references: waveforms to hear the voices from, float32 of shape (samples,) at 22,050 Hz.
    """
    from TTS.tts.layers.xtts.trainer.dataset import XTTSDataset

    items = []
    for clip, reference in zip(clips, references, strict=True):
        waveform = read_waveform(clip.audio)[None]
        items.append(
            {
                "text": clip.text.int(),
                "text_lengths": torch.tensor(len(clip.text)),
                "wav": waveform,
                "wav_lengths": torch.tensor(waveform.shape[1]),
                "filenames": clip.audio,
                "conditioning": reference[None, None],
                "cond_lens": torch.tensor(len(reference)),
                "cond_idxs": torch.tensor([torch.nan]),
            }
        )
    return trainer.format_batch_on_device(XTTSDataset.collate_fn(None, items))
