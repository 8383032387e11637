"""Fine-tune cloning voices on a table of audio and text: XTTS, by LoRA or in full."""
