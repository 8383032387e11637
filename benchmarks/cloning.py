"""Speak and train a step with Chatterbox in its real size, with random weights.

    python benchmarks/cloning.py

It needs the extra chatterbox and its package, and 8 GB of memory. The speech is noise; what counts is that the
package's classes run with the versions installed here, and how long they take.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import machine
from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "pipeline")]
import tiny_chatterbox  # noqa: E402

from finetune.voice.chatterbox import ChatterboxModel, add_lora, collate, encode_clip, merge_into  # noqa: E402
from hfpipe.pipeline.tts_chatterbox import ChatterboxTTS  # noqa: E402

TOKENS = 10
VOICE, QUESTION = (ROOT / "examples" / name for name in ("voz.wav", "pregunta.wav"))
console = Console(highlight=False)


def timed(name: str, compute):
    """Return what a function computes, and print how long it took."""
    start = time.perf_counter()
    result = compute()
    console.print(f"{name}: {time.perf_counter() - start:.1f} s")
    return result


def main() -> None:
    """Build the multilingual model, clone, speak, train by LoRA and merge; print sizes, seconds and losses."""
    console.print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        s3gen = tiny_chatterbox.seeded(tiny_chatterbox.make_s3gen, False)
        part = ChatterboxTTS(tiny_chatterbox.seeded(tiny_chatterbox.make_model, Path(scratch), True, s3gen))
        sizes = {name: getattr(part.model, name) for name in ("t3", "s3gen", "ve")}
        for name, module in sizes.items():
            console.print(f"{name}: {sum(each.numel() for each in module.parameters()) / 1e6:.1f} million parameters")
        voice = timed("hearing a voice", lambda: part.resolve_voice(VOICE))
        sound = timed(
            f"speaking {TOKENS} tokens", lambda: part("Hola a todos.", "es", voice=voice, max_new_tokens=TOKENS)
        )
        mark = part.model.watermarker.get_watermark(sound, part.sampling_rate, round=False).mean()
        console.print(f"{len(sound)} samples at {part.sampling_rate} Hz, watermark {mark:.2f}")
        train(part, Path(scratch, "adapter"))


def train(part: ChatterboxTTS, folder: Path) -> None:
    """Train three steps of LoRA on one clip, merge, and print the losses."""
    t3 = part.model.t3
    batch = collate([encode_clip(part, QUESTION, "¿Cuál es la capital?", "es", VOICE)])
    model = add_lora(t3, dropout=0.0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    console.print(f"LoRA: {sum(each.numel() for each in trained) / 1e6:.1f} million parameters train")
    optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def step() -> float:
        loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    losses = [timed("a step", step) for _ in range(3)]
    with torch.no_grad():
        adapted = model(**batch)["loss"]
    model.save_pretrained(folder)
    t3 = model.unload().t3
    timed("merging", lambda: merge_into(t3, folder))
    with torch.no_grad():
        difference = abs(ChatterboxModel(t3)(**batch)["loss"] - adapted).item()
    console.print(f"losses {', '.join(f'{loss:.3f}' for loss in losses)}; merged from adapter: {difference:.1e}")


if __name__ == "__main__":
    main()
