"""A tiny Whisper with room for few tokens: random weights write until there is none left, so this one is quick."""

import shutil
from pathlib import Path

import torch
from transformers import WhisperForConditionalGeneration

ROOM = 128  # tokens


def save_terse_whisper(tiny: Path, folder: Path) -> Path:
    """Copies a tiny Whisper, and cuts its positions for text."""
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    whisper = WhisperForConditionalGeneration.from_pretrained(tiny)
    positions = whisper.model.decoder.embed_positions
    positions.weight = torch.nn.Parameter(positions.weight[:ROOM].detach().clone())
    whisper.config.max_target_positions = ROOM
    whisper.save_pretrained(folder)
    return folder
