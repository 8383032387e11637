"""Train tiny real XTTSs: the loss is coqui's, killed runs resume to the same losses, and the result speaks."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from coqui_training import coqui_batch, coqui_trainer
from peft import PeftModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from finetune.__main__ import app
from finetune.voice.batches import REFERENCE_SAMPLES, Clip, ClipDataset, VoiceCollator, cut_reference
from finetune.voice.codes import Codec, compute_codes, read_waveform
from finetune.voice.merge import merge_voice
from finetune.voice.options import VoiceOptions, read_voice_yaml
from finetune.voice.prepare import encode_text
from finetune.voice.train import train_voice
from finetune.voice.trainer import explain_out_of_memory
from finetune.voice.xtts import VoiceModel, add_lora, find_checkpoint, load_xtts
from hfpipe.pipeline.tts_xtts import XTTS
from hfpipe.pipeline.tts_xtts_gpt import Decoder, Sampling

ROOT = Path(__file__).parents[2]
RATE = 22_050
SENTENCES = ["hola", "son las 3", "buenos días", "hasta mañana"]
WORDS = "cada mañana el tren sale de la estación y pasa junto al río antes de llegar al puerto con viajeros".split()


def speech(seconds, seed):
    """Return part of the synthetic reference voice, which tells a codec more than noise does."""
    voice, rate = soundfile.read(ROOT / "examples" / "voz.wav", dtype="float32")
    start = np.random.default_rng(seed).integers(0, len(voice) - int(seconds * rate))
    return voice[start : start + int(seconds * rate)], rate


@pytest.fixture(scope="module")
def checkpoint(tiny_xtts, tmp_path_factory):
    """A tiny XTTS with a DVAE, whose number of codes is the checkpoint's own."""
    from TTS.tts.layers.xtts.dvae import DiscreteVAE

    folder = tmp_path_factory.mktemp("voice") / "xtts"
    shutil.copytree(tiny_xtts, folder)
    torch.manual_seed(0)
    sizes = {"num_tokens": 1024, "codebook_dim": 512, "hidden_dim": 512, "num_resnet_blocks": 3, "kernel_size": 3}
    dvae = DiscreteVAE(channels=80, positional_dims=1, num_layers=2, use_transposed_convs=False, **sizes)
    torch.save(dvae.state_dict(), folder / "dvae.pth")
    torch.save(torch.rand(80) + 0.5, folder / "mel_stats.pth")
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of two speakers."""
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "text", "speaker", "country"])
        for i in range(16):
            soundfile.write(folder / f"{i}.wav", *speech(1.2 + 0.05 * i, i))
            words = " ".join(np.roll(WORDS, -i)[: 4 + i % 3])
            rows.writerow([f"{i}.wav", words, f"speaker {i % 2}", ["MX", "CL"][i % 2]])
    return folder / "train.csv"


def options(table, checkpoint, out, **changed):
    given = {
        "model": str(checkpoint),
        "out": str(out),
        "consent": "synthetic voices",
        "batch_size": 4,
        "accumulate": 1,
    }
    quiet = {"log_to": "none", "read_back": 0, "log_every": 1, "learning_rate": 1e-2, "precision": "float32"}
    return {"train": str(table), **given, **quiet, **changed}


def losses(report):
    return [entry["loss"] for entry in report["history"] if "loss" in entry]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [(2.0, 2.0), (2.3, 1.1, 1.6)], ids=["equal lengths", "padded"])
def test_loss_and_gradients_are_those_of_coquis_trainer(checkpoint, tmp_path, seconds):
    xtts = load_xtts(checkpoint)
    codec = Codec(checkpoint, xtts)
    clips = []
    for i, length in enumerate(seconds):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, *speech(length, i))
        text = encode_text(xtts.tokenizer, SENTENCES[i + 1], "es")
        clips.append(Clip(path, SENTENCES[i + 1], text, codec(read_waveform(path)), length, "one"))
    items = [ClipDataset.for_evaluation(clips)[i] for i in range(len(clips))]
    references = [cut_reference(read_waveform(other.audio), other is clip, seed) for clip, other, seed in items]
    model = VoiceModel(xtts.gpt.requires_grad_(True), dropout=0.1).train()
    trainer = coqui_trainer(checkpoint, xtts)
    theirs = coqui_batch(trainer, [clip for clip, _, _ in items], references)
    ours = VoiceCollator(codec.mel_norms)(items)
    assert torch.equal(ours["text"], theirs["text_inputs"].long())
    torch.testing.assert_close(ours["references"], theirs["cond_mels"])
    for row, length in enumerate(ours["code_lengths"].tolist()):
        same = length if len(set(seconds)) == 1 else length - 7  # the padding of a batch is heard in its last codes
        assert torch.equal(ours["codes"][row, :same], theirs["audio_codes"][row, :same])
    ours["codes"] = theirs["audio_codes"].clone()

    torch.manual_seed(1)
    _, expected = trainer.train_step(theirs, None)
    torch.manual_seed(1)  # for the same dropout
    found = model(**ours)
    torch.testing.assert_close(found["loss"], expected["loss"])
    torch.testing.assert_close(found["text_loss"] * 0.01, expected["loss_text_ce"])
    expected["loss"].backward()
    found["loss"].backward()
    peers = dict(trainer.xtts.gpt.named_parameters())
    for name, parameter in xtts.gpt.named_parameters():
        assert (parameter.grad is None) == (peers[name].grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, peers[name].grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def trained(table, checkpoint, tiny_whisper, tmp_path_factory):
    """The folder of a training with everything on, and its report."""
    out = tmp_path_factory.mktemp("trained")
    given = options(table, checkpoint, out, max_steps=4, evaluate_every=2, precision="bfloat16", log_to="tensorboard",
                    read_back=1, asr=str(tiny_whisper), checkpointing=True)  # fmt: skip
    return out, train_voice(**given)


@pytest.mark.slow
def test_a_training_lowers_the_loss_and_says_what_it_did(trained):
    out, report = trained
    assert report["after"]["validation"]["audio_loss"] < report["before"]["validation"]["audio_loss"] - 0.05
    validations = [entry for entry in report["history"] if "eval_loss" in entry]
    assert [entry["step"] for entry in validations] == [2, 4] and "eval_read_back_wer" in validations[0]
    assert soundfile.info(out / "read_back" / "step-4" / "00.wav").samplerate == 24_000
    card = (out / "README.md").read_text(encoding="utf-8")
    for words in ("synthetic voices", "non-commercial", "license_name: coqui-public-model-license", "speaker 1", "MX"):
        assert words in card
    assert list((out / "tensorboard").glob("events*"))
    assert str(out.parent) not in card + (out / "report.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_merged_voice_is_the_adapter_and_an_ordinary_xtts(trained, checkpoint, tmp_path):
    out, _ = trained
    adapted = load_xtts(checkpoint)
    adapter = PeftModel.from_pretrained(VoiceModel(adapted.gpt, dropout=0.0), str(out / "adapter")).eval()
    merged = load_xtts(out)
    text, codes = torch.randint(6, 40, (2, 12)), torch.randint(0, 1024, (2, 30))
    lengths = torch.tensor([12, 9]), torch.tensor([30, 25])
    arguments = (text, lengths[0], codes, lengths[1] * 1024)
    mels = torch.randn(2, 1, 80, 517)
    with torch.no_grad():
        logits = [gpt(*arguments, cond_mels=mels)[2] for gpt in (adapter.base_model.model.gpt, merged.gpt)]
        base = load_xtts(checkpoint).gpt(*arguments, cond_mels=mels)[2]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=0)
    assert (logits[0] - base).abs().max() > 1e-2  # the adapter does something

    again = merge_voice(out, tmp_path / "again", str(checkpoint))
    for name, tensor in load_file(out / "model.safetensors").items():
        assert torch.equal(load_file(again / "model.safetensors")[name], tensor), name
    with pytest.raises(ValueError, match="holds a model already"):
        merge_voice(out, again, str(checkpoint))

    voice = XTTS.from_pretrained(again, precision="float32")
    assert voice.speakers == ("Ana", "Luis")
    assert len(voice("Hola.", max_new_tokens=8)) > 0
    latents = voice.resolve_voice(speaker="Luis").tensors["gpt_cond_latent"]
    [tokens] = voice._prepare("Hola, buenos días.", "es", {})[0]
    decoder = Decoder(merged.gpt, "float32")
    steps = decoder.generate([tokens], [decoder.read_voice(latents)], Sampling(do_sample=False), max_new_tokens=20)
    ours = torch.stack([drawn[0] for _, drawn, _ in steps])
    merged.gpt.init_gpt_for_inference(kv_cache=True)
    greedy = {"do_sample": False, "num_beams": 1, "repetition_penalty": 10.0, "max_new_tokens": 20}
    theirs = merged.gpt.generate(latents, tokens[None], **greedy)[0]
    assert len(theirs) > 5 and torch.equal(ours[: len(theirs)], theirs)


@pytest.fixture(scope="module")
def processes():
    """Return a context whose processes start with everything imported, so that kills are cheap to try."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune.voice.train", "TTS.tts.models.xtts"])
    return context


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_like_an_uninterrupted_one(table, checkpoint, tmp_path, processes):
    def start(out):
        given = options(table, checkpoint, out, max_steps=8, evaluate_every=2, patience=9, resume=True, dropout=0.1)
        process = processes.Process(target=train_voice, kwargs=given)
        process.start()
        return process

    whole, out = start(tmp_path / "whole"), tmp_path / "killed"
    for checkpoint_step in (2, 4, 6):
        process = start(out)
        deadline = time.monotonic() + 240
        while not (out / "checkpoints" / f"checkpoint-{checkpoint_step}").exists() and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)  # while this checkpoint is being written, or just after
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = start(out)
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0
    reports = [json.loads((folder / "report.json").read_text()) for folder in (tmp_path / "whole", out)]
    assert losses(reports[1]) == pytest.approx(losses(reports[0]), rel=1e-6) and len(losses(reports[0])) == 8
    assert reports[1]["after"]["validation"] == pytest.approx(reports[0]["after"]["validation"], rel=1e-6)
    ours, theirs = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (tmp_path / "whole", out)
    )
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name])


@pytest.mark.slow
def test_two_processes_and_accumulated_batches_train_like_one(table, checkpoint, tmp_path):
    """The rows of a step are the same, of different lengths, and each loss is a mean over all of their targets."""
    common = {"max_steps": 3, "validation_share": 0, "lora_dropout": 0.0}
    one = train_voice(**options(table, checkpoint, tmp_path / "one", **common))
    accumulated = options(table, checkpoint, tmp_path / "accumulated", batch_size=1, accumulate=4, **common)
    assert losses(train_voice(**accumulated)) == pytest.approx(losses(one), rel=1e-4)
    given = options(table, checkpoint, tmp_path / "two", batch_size=2, **common)
    (tmp_path / "two.yaml").write_text("\n".join(f"{name}: {value}" for name, value in given.items()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "finetune", "voice", "--config", str(tmp_path / "two.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "report.json").read_text())
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


@pytest.mark.slow
def test_full_training_stops_early_and_keeps_the_best(table, checkpoint, tmp_path):
    given = options(table, checkpoint, tmp_path, method="full", learning_rate=0.3, max_steps=9, evaluate_every=1,
                    patience=1, dropout=0.0, warmup=0, country="mx")  # fmt: skip
    report = train_voice(**given)
    assert list(report["data"]["train"]["countries"]) == ["MX"] and report["data"]["train"]["dropped"] == {
        "not of mx": 8
    }
    validations = [entry["eval_loss"] for entry in report["history"] if "eval_loss" in entry]
    assert len(validations) < 9 and report["after"]["validation"]["loss"] == pytest.approx(min(validations), rel=1e-5)
    assert not (tmp_path / "adapter").exists() and load_xtts(tmp_path)
    with pytest.raises(ValueError, match="holds a training already"):
        train_voice(**given)
    with pytest.raises(ValueError, match="--learning-rate was 0.3 and is 1.0"):
        train_voice(**{**given, "resume": True, "learning_rate": 1.0})


@pytest.mark.slow
def test_a_diverged_training_writes_no_voice(table, checkpoint, tmp_path):
    given = options(table, checkpoint, tmp_path, method="full", learning_rate=100.0, max_steps=2, warmup=0)
    with pytest.raises(ValueError, match="the training diverged: its loss is nan, so no voice was written"):
        train_voice(**given, validation_share=0)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_codes_are_computed_once_and_whole(checkpoint, table, tmp_path, monkeypatch):
    codec = Codec(checkpoint, load_xtts(checkpoint))
    paths = [table.parent / f"{i}.wav" for i in range(4)]
    monkeypatch.setattr("finetune.voice.codes.SHARD", 2)
    calls = []
    heard = codec.forward
    monkeypatch.setattr(codec, "forward", lambda waveform: calls.append(len(waveform)) or heard(waveform))
    codes = compute_codes(paths, tmp_path / "codes", codec)
    assert len(calls) == 4 and [len(each) for each in codes] == [-(-length // 1024) for length in calls]
    next((tmp_path / "codes").glob("*.safetensors")).unlink()  # as if the run had been killed before
    again = compute_codes(paths, tmp_path / "codes", codec)
    assert len(calls) == 6 and all(torch.equal(*pair) for pair in zip(codes, again, strict=True))
    assert len(list((tmp_path / "codes").iterdir())) == 2


def test_the_reference_is_another_clip_of_the_speaker():
    clips = [Clip(Path(str(i)), "", torch.ones(1), torch.ones(1), 1.0 + i, "AAB"[i]) for i in range(3)]
    clips.append(Clip(Path("3"), "", torch.ones(1), torch.ones(1), 4.0, None))
    found = {
        clip.audio.name: reference.audio.name
        for clip, reference, _ in map(ClipDataset.for_evaluation(clips).__getitem__, range(4))
    }
    assert found == {"0": "1", "1": "0", "2": "2", "3": "3"}
    for seconds, is_same, kept in ((1.0, True, 0.5), (1.0, False, 1.0), (20.0, False, None)):
        cut = cut_reference(torch.ones(int(seconds * RATE)), is_same, seed=0)
        assert len(cut) == REFERENCE_SAMPLES[1]
        sounding = int(cut.sum())
        assert sounding == int(kept * RATE) if kept else REFERENCE_SAMPLES[0] <= sounding <= REFERENCE_SAMPLES[1]


def test_options_of_the_seeds_yaml(tmp_path):
    path = tmp_path / "train_config.yaml"
    path.write_text(
        """
        model: {base_model: coqui/XTTS-v2, lora_rank: 32, lora_alpha: 64, lora_dropout: 0.05,
                target_modules: [c_attn, c_proj]}
        training: {batch_size: 4, gradient_accumulation_steps: 4, learning_rate: 1e-4, num_epochs: 10,
                   warmup_steps: 500, max_audio_length: 30}
        data: {train_path: data/train, val_path: data/val}
        output: {checkpoint_dir: checkpoints/, save_every: 1000}
        logging: {wandb_project: es-latam, log_every: 100}
        consent: "Ana, in writing"
        """
    )
    read = VoiceOptions(**read_voice_yaml(path))
    assert (read.model, read.lora_targets, read.accumulate, read.learning_rate) == (
        "coqui/XTTS-v2",
        "c_attn,c_proj",
        4,
        1e-4,
    )
    assert (read.warmup, read.max_seconds, read.train, read.validation) == (500.0, 30.0, "data/train", "data/val")
    assert (read.out, read.evaluate_every, read.log_to, read.log_every) == ("checkpoints/", 1000, "wandb", 100)
    path.write_text("model: {rank: 3}")
    with pytest.raises(ValueError, match="has rank; valid is train, test, consent"):
        read_voice_yaml(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"consent": " "}, "--consent is '': a voice is made only of recordings whose speakers agreed"),
        ({"method": "qlora"}, "--method is 'qlora'; valid is lora, full"),
        ({"batch_size": 0}, "--batch-size is 0; valid is more than 0"),
        ({"dropout": 1.0}, "--dropout is 1.0; valid is from 0 to 0.99"),
        ({"warmup": -1}, "valid is 0 or more"),
    ],
)
def test_invalid_options_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        VoiceOptions(**{"train": "t.csv", "consent": "synthetic", **changed})


def test_without_consent_nothing_is_read_or_written(table, tmp_path):
    done = CliRunner().invoke(app, ["voice", str(table), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and "--consent is" in done.output and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_a_checkpoint_lacks_is_named(checkpoint, tmp_path):
    folder = tmp_path / "xtts"
    shutil.copytree(checkpoint, folder)
    xtts = load_xtts(folder)
    with pytest.raises(ValueError, match="valid are XTTS's c_attn, c_fc, c_proj"):
        add_lora(VoiceModel(xtts.gpt, 0.0), VoiceOptions(train="t", consent="c", lora_targets="q_proj,v_proj"))
    (folder / "mel_stats.pth").unlink()
    assert torch.equal(Codec(folder, xtts).mel_norms, xtts.mel_stats)
    torch.save({"encoder.0.weight": torch.ones(1), "code": Path("harmless")}, folder / "dvae.pth")
    with pytest.raises(ValueError, match="isn't a file of plain weights"):
        Codec(folder, xtts)
    torch.save({}, folder / "dvae.pth")
    with pytest.raises(ValueError, match="lacks encoder"):
        Codec(folder, xtts)
    (folder / "dvae.pth").unlink()
    with pytest.raises(FileNotFoundError, match="there is no dvae.pth in"):
        find_checkpoint(str(folder))
    with pytest.raises(FileNotFoundError, match="there is no adapter_model.safetensors in"):
        merge_voice(folder, tmp_path / "merged")


def test_out_of_memory_says_what_to_change():
    given = VoiceOptions(train="t", consent="c", method="full")
    with pytest.raises(MemoryError, match="--checkpointing; --batch-size 1 --accumulate 16. Or .* --method lora"):
        with explain_out_of_memory(given):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
