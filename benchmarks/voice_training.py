"""Compare our training of XTTS with coqui's own, at full size: `python benchmarks/voice_training.py --json FILE`.

The weights are random and seeded, of XTTS v2's size; the speed doesn't depend on their values. Each side trains on the
same rows, in the same batches, in a process of its own, with all cores: coqui's as its recipe has it (all weights,
float32, AdamW, codes computed at each step), ours with the default options (LoRA, 16 bits where the CPU has units for
it, codes computed before), and with `--method full`. Reading the recordings is part of a step, loading and the first
step aren't. One more process gives both the same batch in float32, and compares losses and gradients; another merges
an adapter, and compares its logits with the merged folder's, and the folder's greedy tokens in hfpipe with coqui's.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # or benchmarks/finetune.py would shadow the package finetune

import hfpipe  # noqa: E402, F401, I001  # before torch: it makes idle threads sleep
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
from coqui_training import coqui_batch, coqui_trainer  # noqa: E402
from measure import Row, report  # noqa: E402
from transformers import TrainerCallback, set_seed  # noqa: E402
from xtts import TEXT, TOKENS, make_checkpoint  # noqa: E402

from finetune.voice.batches import ClipDataset, VoiceCollator, cut_reference  # noqa: E402
from finetune.voice.codes import Codec, read_waveform  # noqa: E402
from finetune.voice.merge import merge_voice  # noqa: E402
from finetune.voice.options import VoiceOptions  # noqa: E402
from finetune.voice.prepare import encode_text, prepare  # noqa: E402
from finetune.voice.train import _make_trainer  # noqa: E402
from finetune.voice.xtts import VoiceModel, add_lora, load_xtts  # noqa: E402
from hfpipe.pipeline.tts_xtts_checkpoint import read_speakers  # noqa: E402
from hfpipe.pipeline.tts_xtts_gpt import Decoder, Sampling  # noqa: E402

ROWS, SECONDS = 8, (4.0, 8.0)
WARM_UP = 1  # steps that aren't timed
SIDES = ("equal", "merged", "coqui", "ours", "full")


def make_data(folder: Path) -> None:
    """Write a checkpoint with a random DVAE, and a table of clips cut from the synthetic reference voice."""
    from TTS.tts.layers.xtts.dvae import DiscreteVAE

    for path in make_checkpoint().iterdir():
        (folder / path.name).symlink_to(path)
    torch.manual_seed(0)
    sizes = {"num_tokens": 1024, "codebook_dim": 512, "hidden_dim": 512, "num_resnet_blocks": 3, "kernel_size": 3}
    dvae = DiscreteVAE(channels=80, positional_dims=1, num_layers=2, use_transposed_convs=False, **sizes)
    torch.save(dvae.state_dict(), folder / "dvae.pth")
    torch.save(torch.ones(80), folder / "mel_stats.pth")
    voice, rate = soundfile.read(ROOT / "examples" / "voz.wav", dtype="float32")
    lines = ["audio,text,speaker"]
    for i, seconds in enumerate(np.linspace(*SECONDS, ROWS)):
        soundfile.write(folder / f"{i}.wav", np.resize(np.roll(voice, 1000 * i), int(seconds * rate)), rate)
        lines.append(f'{i}.wav,"{TEXT}",one')
    (folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")


class Sides:
    """What both sides train: the checkpoint, the clips, and the schedule of `steps` steps."""

    def __init__(self, folder: Path, batch_size: int, steps: int, method: str):
        self.folder = folder
        self.options = VoiceOptions(
            train=str(folder / "rows.csv"),
            consent="a synthetic voice",
            model=str(folder),
            out=str(folder / "out"),
            method=method,
            batch_size=batch_size,
            accumulate=1,
            max_steps=steps,
            validation_share=0,
            log_to="none",
        )
        self.xtts = load_xtts(folder)
        self.codec = Codec(folder, self.xtts)
        self.splits = prepare(self.options, self.xtts, self.codec, lambda text: None)

    def batches(self):
        """Yield the items of each step."""
        size, steps = self.options.batch_size, self.options.max_steps
        data = ClipDataset.for_training(self.splits.train, size, steps, self.options.seed)
        for start in range(0, len(data), size):
            yield [data[i] for i in range(start, start + size)]


def train_ours(sides: Sides) -> list[float]:
    """Train with `VoiceTrainer`, and return the seconds of each step."""
    ends = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            ends.append(ends[-1] if ends else time.perf_counter())

        def on_step_end(self, *args, **kwargs):
            ends[-1] = time.perf_counter()

    collator = VoiceCollator(sides.codec.mel_norms)
    trainer = _make_trainer(sides.options, sides.xtts, collator, sides.splits, lambda text: None)
    trainer.add_callback(Clock())
    set_seed(0)
    trainer.train()
    return np.diff(ends).tolist()


def train_coqui(sides: Sides) -> list[float]:
    """Train with coqui's `GPTTrainer` and its optimizer, and return the seconds of each step after the first."""
    trainer = coqui_trainer(sides.folder, sides.xtts)
    sides.xtts = sides.codec = None
    optimizer = trainer.get_optimizer()
    ends = []
    for items in sides.batches():
        _, losses = trainer.train_step(formatted(trainer, items), None)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        ends.append(time.perf_counter())
    return np.diff(ends).tolist()


def formatted(trainer, items) -> dict:
    """Return items as coqui's trainer gets them."""
    references = [cut_reference(read_waveform(other.audio), other is clip, seed) for clip, other, seed in items]
    return coqui_batch(trainer, [clip for clip, _, _ in items], references)


def compare(sides: Sides) -> dict[str, float]:
    """Return how far the loss and the gradients of a batch are from coqui's, in float32, relative to their size."""
    items = next(sides.batches())
    trainer = coqui_trainer(sides.folder, sides.xtts)
    theirs = formatted(trainer, items)
    ours = VoiceCollator(sides.codec.mel_norms)(items) | {"codes": theirs["audio_codes"].clone()}
    model = VoiceModel(sides.xtts.gpt.requires_grad_(True), dropout=0.1).train()
    torch.manual_seed(0)
    _, expected = trainer.train_step(theirs, None)
    torch.manual_seed(0)  # for the same dropout
    found = model(**ours)
    expected["loss"].backward()
    found["loss"].backward()
    pairs = zip(model.gpt.parameters(), trainer.xtts.gpt.parameters(), strict=True)
    worst = max(float((a.grad - b.grad).abs().max() / b.grad.abs().max()) for a, b in pairs if b.grad is not None)
    return {"loss": found["loss"].item(), "coqui's": expected["loss"].item(), "gradients": worst}


def merge(sides: Sides) -> dict[str, float]:
    """Return how far a merged folder's logits are from its adapter's, and how many greedy tokens are coqui's."""
    arguments = VoiceCollator(sides.codec.mel_norms)(next(sides.batches()))
    adapted = add_lora(VoiceModel(sides.xtts.gpt, dropout=0.0), sides.options).eval()
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.02)  # as if it had been trained, for long
    adapted.save_pretrained(str(sides.folder / "adapter"), save_embedding_layers=False)
    logits = [read_logits(adapted.base_model.model.gpt, arguments)]
    merge_voice(sides.folder / "adapter", sides.folder / "merged", str(sides.folder))
    merged = load_xtts(sides.folder / "merged")
    logits += [read_logits(merged.gpt, arguments), read_logits(load_xtts(sides.folder).gpt, arguments)]
    voice = read_speakers(sides.folder / "merged")["Ana"]["gpt_cond_latent"]
    text = encode_text(merged.tokenizer, TEXT, "es")
    decoder = Decoder(merged.gpt)
    steps = decoder.generate([text], [decoder.read_voice(voice)], Sampling(do_sample=False), TOKENS)
    ours = torch.stack([drawn[0] for _, drawn, _ in steps])
    merged.gpt.init_gpt_for_inference(kv_cache=True)
    greedy = {"do_sample": False, "num_beams": 1, "repetition_penalty": 10.0, "max_new_tokens": TOKENS}
    theirs = merged.gpt.generate(voice, text[None], **greedy)[0]
    return {
        "merged against adapter": (logits[1] - logits[0]).abs().max().item(),
        "base against adapter": (logits[2] - logits[0]).abs().max().item(),
        "greedy tokens": len(theirs),
        "equal": int((ours[: len(theirs)] == theirs).sum()),
    }


@torch.no_grad()
def read_logits(gpt, batch: dict) -> torch.Tensor:
    """Return the logits of the audio codes of a batch."""
    samples = batch["code_lengths"] * gpt.code_stride_len
    return gpt(batch["text"], batch["text_lengths"], batch["codes"], samples, cond_mels=batch["references"])[2]


def run_side(arguments) -> None:
    """Run one side and print its figures as JSON."""
    method = "full" if arguments.side == "full" else "lora"
    sides = Sides(arguments.folder, arguments.batch_size, arguments.steps + WARM_UP, method)
    if arguments.side in ("equal", "merged"):
        print(json.dumps(compare(sides) if arguments.side == "equal" else merge(sides)))
        return
    train = train_coqui if arguments.side == "coqui" else train_ours
    seconds = train(sides)[-arguments.steps :]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": float(np.median(seconds)), "peak": peak}))


def main() -> None:
    """Run each side in a process of its own, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the results; a chart is written next to it")
    parser.add_argument("--steps", type=int, default=3, help="timed optimizer steps of each side")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return run_side(arguments)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--folder", folder, "--steps", str(arguments.steps)]
            command += ["--batch-size", str(arguments.batch_size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[side] = json.loads(done.stdout.splitlines()[-1])
            print(side, found[side], flush=True)
    seconds, peaks = ({side: found[side][key] for side in SIDES[2:]} for key in ("seconds", "peak"))
    rows = [
        Row("training speed", *(arguments.batch_size / seconds[side] for side in ("ours", "coqui")), "rows/s"),
        Row("time of an optimizer step", seconds["ours"], seconds["coqui"], "s"),
        Row("peak memory", peaks["ours"], peaks["coqui"], "GiB"),
        Row("time of an optimizer step, --method full", seconds["full"], seconds["coqui"], "s"),
        Row("peak memory, --method full", peaks["full"], peaks["coqui"], "GiB"),
    ]
    report(f"Training XTTS v2's language model, {arguments.batch_size} rows of 4 to 8 s a step", rows, arguments.json)


if __name__ == "__main__":
    main()
