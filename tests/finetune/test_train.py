"""Train tiny real Whispers: the loss is right, killed runs resume to the same result, and the outputs load."""

import csv
import json
import math
import multiprocessing
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from test_check_rows import RATE, speech, write_bad_rows
from torch.utils.data import DataLoader
from transformers import WhisperForConditionalGeneration, pipeline

from finetune.card import describe_base, public_name
from finetune.checkpoints import COMPLETE_MARKER, CheckpointCallback, best_step, last_complete_checkpoint
from finetune.collate import StreamedTrainingDataset
from finetune.data import Row, load, read_rows, stream_rows
from finetune.evaluate import transcribe_rows
from finetune.lora import LORA_SHARE, add_lora, scale_lora
from finetune.options import LEARNING_RATES, Options, read_yaml
from finetune.prepare import prepare
from finetune.train import LOCAL, push, run, train_whisper
from finetune.trainer import explain_out_of_memory, training_arguments, training_precision
from finetune.whisper import load_whisper, locate, transcribe

pytestmark = pytest.mark.slow
SENTENCES = ["hola", "buenos días", "son las tres", "hasta mañana", "no lo sé", "muchas gracias", "sí", "uno dos tres"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two tables of rows with two speakers, a table of another language, and one of long audio."""
    folder = tmp_path_factory.mktemp("tables")
    for name, rows, seconds in (("train", 16, 1.0), ("test", 4, 1.0), ("english", 2, 1.0), ("long", 1, 31.0)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["audio", "sentence", "country"])
            for i in range(rows):
                soundfile.write(folder / f"{name}{i}.wav", speech(seconds, hash((len(name), i)) % 9999), RATE)
                table.writerow([f"{name}{i}.wav", SENTENCES[i % 8], ["MX", "CL"][i % 2]])
    return folder


def options(tables, tiny_whisper, out, **changed):
    given = {"model": str(tiny_whisper), "out": str(out), "epochs": 2, "batch_size": 4, "log_to": "none", **changed}
    return {"train": str(tables / "train.csv"), "test": str(tables / "test.csv"), **given}


def losses(report_or_history):
    history = report_or_history["history"] if isinstance(report_or_history, dict) else report_or_history
    return [float(entry["loss"]) for entry in history if "loss" in entry]


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def one_step(tables, tiny_whisper, out, batch_size, accumulate, method="full", precision="float32"):
    given = Options(
        **options(tables, tiny_whisper, out, batch_size=batch_size, accumulate=accumulate, max_steps=2, method=method,
                  validation_share=0.0, learning_rate=1e-2, lora_dropout=0.0, precision=precision)
    )  # fmt: skip
    whisper, processor = load_whisper(tiny_whisper)
    sets = prepare(given, whisper, processor, lambda text: None)
    history = run(given, whisper, processor, sets, lambda text: None)
    return losses(history), [float(entry["grad_norm"]) for entry in history if "loss" in entry], weights(out)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_and_the_step_do_not_depend_on_the_accumulation(tables, tiny_whisper, tmp_path, method):
    whole = one_step(tables, tiny_whisper, tmp_path / "1", 8, 1, method)
    assert 5 < whole[0][0] < 9  # random weights over about 1800 tokens: log(1800) is 7.5
    for batch_size, accumulate in ((4, 2), (2, 4)):
        parts = one_step(tables, tiny_whisper, tmp_path / str(accumulate), batch_size, accumulate, method)
        assert parts[0] == pytest.approx(whole[0], rel=1e-3)
        assert parts[1] == pytest.approx(whole[1], rel=1e-2)
        for name, tensor in whole[2].items():
            torch.testing.assert_close(parts[2][name], tensor, atol=2e-3, rtol=0, msg=name)


def test_bfloat16_trains_float32_weights_to_nearly_the_same_loss(tables, tiny_whisper, tmp_path):
    exact, rounded = (one_step(tables, tiny_whisper, tmp_path / p, 8, 1, precision=p) for p in ("float32", "bfloat16"))
    assert rounded[0] != exact[0] and rounded[0] == pytest.approx(exact[0], rel=1e-2)
    assert rounded[1] == pytest.approx(exact[1], rel=0.1)
    assert all(tensor.dtype == torch.float32 for tensor in rounded[2].values() if tensor.is_floating_point())


@pytest.mark.parametrize("avx512, amx", [(False, False), (True, False), (False, True)])
def test_automatic_precision_is_what_the_cpu_accelerates(monkeypatch, avx512, amx):
    assert {"avx512_bf16", "amx_tile"} <= set(torch.cpu.get_capabilities()) or platform.machine() != "x86_64"
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": avx512, "amx_tile": amx})
    assert training_precision("auto", on_gpu=False) == ("bfloat16" if avx512 or amx else "float32")


def test_an_explicit_precision_is_used_or_refused():
    assert training_precision("bfloat16", on_gpu=False) == training_precision("bfloat16", on_gpu=True) == "bfloat16"
    with pytest.raises(ValueError, match="--precision float16 needs a GPU"):
        training_precision("float16", on_gpu=False)
    with pytest.raises(ValueError, match="--precision is 'int8'; valid is auto, float32"):
        Options(train="t.csv", precision="int8")


def test_one_batch_can_be_overfitted(tables, tiny_whisper, tmp_path):
    """A one-layer Whisper learns to map four tones to four sentences."""
    table = tmp_path / "four.csv"
    table.write_text("".join(f"{i}.wav,{SENTENCES[i]}\n" for i in range(4)), encoding="utf-8")
    for i in range(4):
        length = RATE * (4, 2, 5, 3)[i] // 4  # transcription sorts by length, so let it change the order
        tone = np.sin(2 * np.pi * 200 * 2.5**i * np.arange(length) / RATE)
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * tone, RATE)
    given = Options(
        **options(tables, tiny_whisper, tmp_path / "out", train=str(table), max_steps=220, learning_rate=2e-2,
                  validation_share=0.0, timestamps=0.0, full_windows=0.0, evaluate_every=220)
    )  # fmt: skip
    whisper, processor = load_whisper(tiny_whisper)
    whisper.generation_config.suppress_tokens = None  # the tiny one may only write a to z
    sets = prepare(given, whisper, processor, lambda text: None)
    found = losses(run(given, whisper, processor, sets, lambda text: None))
    assert found[-1] < 0.5 < 5 < found[0]
    assert len(set(found)) == len(found)  # never constantly 0, nor anything else
    assert transcribe_rows(whisper, processor, sets.train, "es") == [row.sentence for row in sets.train]


@pytest.fixture(scope="module")
def trained(tables, tiny_whisper, tmp_path_factory):
    """Run a complete LoRA training with all evaluations and outputs; return its folder and report."""
    out = tmp_path_factory.mktemp("trained") / "mine"
    report = train_whisper(
        **options(tables, tiny_whisper, out, method="lora", learning_rate=1e-2, other=f"{tables}/english.csv:en",
                  long=str(tables / "long.csv"), export="ct2", log_to="tensorboard", spec_augment=True)
    )  # fmt: skip
    return out, report


def test_the_folder_is_a_whisper_with_its_report_and_card(trained):
    out, report = trained
    files = {path.name for path in out.iterdir()}
    whisper = {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    }
    assert whisper <= files
    assert {"README.md", "report.md", "report.json", "report.png", "data.md", "tensorboard", "ct2"} <= files
    assert not [name for name in files if name.startswith(".")]
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert set(report["after"]) == {"test", "other language", "long audio"} == set(report["gain"])
    assert report["after"]["test"]["by"]["country"]["MX"]["utterances"] == 2
    markdown = (out / "report.md").read_text()
    for words in ("no better", "95 % interval", "By country", "other language", "The worst utterances", "report.png"):
        assert words in markdown
    assert list(out.glob("tensorboard/*"))
    config = json.loads((out / "config.json").read_text())
    generation = json.loads((out / "generation_config.json").read_text())
    assert config.get("use_cache", True) and not config.get("apply_spec_augment")
    assert (generation["language"], generation["task"]) == ("es", "transcribe")


def test_the_card_has_the_error_rates_where_the_hub_reads_them(trained):
    out, report = trained
    card = ModelCard.load(out / "README.md")
    results = {(one.metric_type, one.metric_name): one.metric_value for one in card.data.eval_results}
    assert results["wer", "WER, normalized"] == round(report["after"]["test"]["wer"], 2)
    assert results["cer", "CER, normalized"] == round(report["after"]["test"]["cer"], 2)
    assert card.data.language == "es" and card.data.base_model is None  # a folder has no id on the Hub
    assert card.data.pipeline_tag == "automatic-speech-recognition"


def test_the_card_names_the_base_model(tmp_path):
    assert describe_base("openai/whisper-base@abc") == {"base_model": "openai/whisper-base", "license": "apache-2.0"}
    assert describe_base(str(tmp_path)) == {"base_model": None, "license": None}
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model: openai/whisper-tiny\n---\n# Mine\n")
    assert describe_base(str(tmp_path)) == {"base_model": "openai/whisper-tiny", "license": "mit"}
    (tmp_path / "WHISPER.md").write_text("---\nlicense: apache-2.0\nbase_model: openai/whisper-base\n---\n# Base\n")
    assert describe_base(str(tmp_path)) == {"base_model": "openai/whisper-base", "license": "apache-2.0"}


def test_a_whisper_goes_by_folder_id_or_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [locate(name) for name in ("base", "turbo", "org/mine@v1", tmp_path)] == [
        "openai/whisper-base", "openai/whisper-large-v3-turbo", "org/mine@v1", str(tmp_path)
    ]  # fmt: skip
    Path("base").mkdir()
    assert locate("base") == "base"


def test_a_whisper_trained_from_a_voice_qa_repo_is_a_plain_one(tables, tiny_whisper, tmp_path):
    """Its config would name parts and code that aren't in the new folder."""
    repo = shutil.copytree(tiny_whisper, tmp_path / "repo")
    config = json.loads((repo / "config.json").read_text())
    more = {"voice_qa": {"llm": "llm", "tts": "tts"}, "custom_pipelines": {"voice-qa": {"impl": "voice_qa.X"}}}
    (repo / "config.json").write_text(json.dumps(config | more))
    train_whisper(**options(tables, repo, tmp_path / "out", max_steps=1, validation_share=0.0))
    assert not more.keys() & json.loads((tmp_path / "out" / "config.json").read_text()).keys()


def test_an_adapter_changes_the_output_and_a_reload_gives_it_again(trained, tiny_whisper, tables):
    from peft import PeftModel

    out, _ = trained
    base, processor = load_whisper(tiny_whisper)
    features = processor.feature_extractor(speech(), sampling_rate=RATE, return_tensors="pt").input_features
    inputs = {"input_features": features, "decoder_input_ids": torch.tensor([[base.config.decoder_start_token_id]])}
    with torch.inference_mode():
        plain = base(**inputs).logits
        adapted = PeftModel.from_pretrained(base, out / "adapter").eval()(**inputs).logits
        merged = load_whisper(out)[0](**inputs).logits
    assert (adapted - plain).abs().max() > 1e-3
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-3)


def test_it_drops_into_the_pipelines(trained, tiny_chat, tiny_vits):
    import hfpipe  # noqa: F401

    out, _ = trained
    asr = pipeline("automatic-speech-recognition", model=str(out), device="cpu")
    assert asr(speech(2.0))["text"]
    voice_qa = pipeline("voice-qa", model=str(out), llm=str(tiny_chat), tts=str(tiny_vits), device="cpu")
    result = voice_qa(str(ROOT / "examples" / "pregunta.wav"))
    assert result["question"] and result["answer"]


def test_the_export_says_what_the_model_says(trained, tables):
    """faster-whisper reads the exported folder by itself; random weights must give the same letters."""
    faster_whisper = pytest.importorskip("faster_whisper")
    out, _ = trained
    assert {path.name for path in (out / "ct2").iterdir()} >= {
        "model.bin", "config.json", "tokenizer.json", "vocabulary.json", "preprocessor_config.json"
    }  # fmt: skip
    ours = transcribe(*load_whisper(out), [speech(1.0)], "es", full_window=True)[0]
    model = faster_whisper.WhisperModel(str(out / "ct2"), device="cpu", compute_type="float32")
    features = model.feature_extractor(speech(1.0))[:, :3000]
    tokenizer = faster_whisper.tokenizer.Tokenizer(model.hf_tokenizer, True, task="transcribe", language="es")
    prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
    encoded = model.encode(torch.nn.functional.pad(torch.tensor(features), (0, 3000 - features.shape[1])).numpy())
    result = model.model.generate(encoded, [prompt], beam_size=1, max_length=40, suppress_blank=False)[0]
    theirs = tokenizer.decode(result.sequences_ids[0]).strip()
    assert theirs and (ours.startswith(theirs[:10]) or theirs.startswith(ours[:10]))


def test_a_frozen_encoder_stays_and_the_decoder_learns(tables, tiny_whisper, tmp_path):
    train_whisper(**options(tables, tiny_whisper, tmp_path, method="frozen-encoder", max_steps=3, export=None))
    before = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).state_dict()
    for name, tensor in weights(tmp_path).items():
        if name.startswith("model.encoder"):
            torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)
    assert not torch.equal(weights(tmp_path)["model.decoder.layers.0.fc1.weight"],
                           before["model.decoder.layers.0.fc1.weight"])  # fmt: skip


@pytest.fixture(scope="module")
def processes():
    """Return a context whose processes start with everything imported, so that kills are cheap to try."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finetune.train"])
    return context


def test_a_killed_and_resumed_training_ends_like_an_uninterrupted_one(tables, tiny_whisper, tmp_path, processes):
    """Dropout, noise and SpecAugment are random at each step, and must be the same after resuming."""

    def start(out):
        given = options(tables, tiny_whisper, out, method="lora", learning_rate=1e-2, noise=True, spec_augment=True,
                        max_steps=14, evaluate_every=2, patience=9, resume=True)  # fmt: skip
        process = processes.Process(target=train_whisper, kwargs=given)
        process.start()
        return process

    whole, out = start(tmp_path / "whole"), tmp_path / "killed"
    for checkpoint in (2, 6, 12):
        process = start(out)
        deadline = time.monotonic() + 120
        while not (out / "checkpoints" / f"checkpoint-{checkpoint}").exists() and process.is_alive():
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
    assert losses(reports[0]) == losses(reports[1]) and len(losses(reports[0])) == 14
    assert reports[0]["transcripts"] == reports[1]["transcripts"]
    for name, tensor in weights(out).items():
        assert torch.equal(tensor, weights(tmp_path / "whole")[name]), name


def test_two_processes_train_like_one(tables, tiny_whisper, tmp_path):
    common = {"validation_share": 0.25, "max_steps": 3, "learning_rate": 1e-2, "precision": "float32"}
    one = train_whisper(**options(tables, tiny_whisper, tmp_path / "one", **common))
    (tmp_path / "two.yaml").write_text(
        "\n".join(
            f"{name}: {value}"
            for name, value in options(tables, tiny_whisper, tmp_path / "two", batch_size=2, **common).items()
        )
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "finetune", "whisper", "--config", str(tmp_path / "two.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "report.json").read_text())
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert two["transcripts"] == one["transcripts"]


def test_a_training_resumed_after_early_stopping_stops_again(tables, tiny_whisper, tmp_path):
    given = options(tables, tiny_whisper, tmp_path, max_steps=12, evaluate_every=1, patience=1, learning_rate=1e-9)
    first = train_whisper(**given)
    assert [entry["step"] for entry in first["history"] if "eval_wer" in entry] == [1, 2]
    before = weights(tmp_path)
    again = train_whisper(**given, resume=True)
    assert again["after"]["test"]["wer"] == first["after"]["test"]["wer"]
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, before[name]), name


def test_the_later_of_equally_good_checkpoints_is_best(tables, tiny_whisper, tmp_path):
    train_whisper(**options(tables, tiny_whisper, tmp_path, max_steps=3, evaluate_every=1, learning_rate=1e-9))
    state = json.loads((tmp_path / "checkpoints" / "checkpoint-3" / "trainer_state.json").read_text())
    rates = [entry["eval_wer"] for entry in state["log_history"] if "eval_wer" in entry]
    assert len(rates) == 3 and len(set(rates)) == 1
    assert state["best_model_checkpoint"].endswith("checkpoint-3")


def test_the_last_checkpoint_within_a_standard_error_of_the_lowest_rate_is_best_and_kept(
    tables, tiny_whisper, tmp_path, monkeypatch
):
    given = Options(**options(tables, tiny_whisper, tmp_path, max_steps=5, evaluate_every=1, validation_share=0.9))
    whisper, processor = load_whisper(tiny_whisper)
    sets = prepare(given, whisper, processor, lambda text: None)
    rows = len(sets.validation)
    assert rows > 8
    wrong = iter([rows, 5, 4, 5, rows])

    def transcribe_with_errors(whisper, processor, validation, *_, **__):
        right = validation[next(wrong) :]
        return [row.sentence if row in right else "mal" for row in validation]

    monkeypatch.setattr("finetune.train.transcribe_rows", transcribe_with_errors)
    history = run(given, whisper, processor, sets, lambda text: None)
    rates = {entry["step"]: entry["eval_wer"] for entry in history if "eval_wer" in entry}
    assert rates[3] < rates[4] == rates[2] < rates[5] == rates[1]
    state = json.loads((tmp_path / "checkpoints" / "checkpoint-5" / "trainer_state.json").read_text())
    assert state["best_metric"] == rates[3] and state["best_global_step"] == 4
    assert (tmp_path / "checkpoints" / "checkpoint-4").is_dir()


@pytest.mark.parametrize("rates, errors, expected", [
    ([50, 40, 41, 43], [1, 2, 1, 1], 3),
    ([50, 40, 41, 38, 43], [1, 2, 1, 2, 1], 4),
    ([40, 40], [0, 0], 2),
    ([40, 41], [0, 9], 1),
])  # fmt: skip
def test_the_best_step_is_the_last_within_one_standard_error(rates, errors, expected):
    history = [{"loss": 1.0, "step": 1}]
    for step, (rate, error) in enumerate(zip(rates, errors, strict=True), 1):
        history.append({"eval_wer": rate, "eval_wer_error": error, "step": step})
    assert best_step(history) == expected


def test_an_incomplete_checkpoint_is_not_resumed(tmp_path):
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").touch()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / COMPLETE_MARKER).touch()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-11").exists()
    assert last_complete_checkpoint(tmp_path / "nothing") is None


def test_training_on_shards_equals_training_on_audio(tables, tiny_whisper, tmp_path):
    reports = [
        train_whisper(**options(tables, tiny_whisper, tmp_path / name, preprocess=preprocess, max_steps=3))
        for name, preprocess in (("audio", 0), ("shards", 5))
    ]
    assert losses(reports[0]) == pytest.approx(losses(reports[1]), abs=1e-3)
    assert len(list((tmp_path / "shards" / "features").glob("*.safetensors"))) == 3


def test_a_streamed_dataset_trains_and_its_bad_rows_are_counted(tables, tiny_whisper, tmp_path):
    import datasets

    audio = datasets.Features({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    features = datasets.Features({"audio": audio, "sentence": datasets.Value("string")})
    files = [tables / f"train{i}.wav" for i in range(16)] + [tables / "test0.wav"]
    rows = {"audio": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "sentence": [*SENTENCES, *SENTENCES[:7], "", "fuga"]}  # fmt: skip
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    given = options(tables, tiny_whisper, tmp_path / "out", train=f"{tmp_path / 'set'}::train", max_steps=3)
    report = train_whisper(**given)
    assert report["data"]["train"]["dropped"] == {"no text": 1, "also in the test": 1}
    assert report["data"]["train"]["rows"] == 17 and len(losses(report)) == 3
    with pytest.raises(ValueError, match="--max-steps"):
        train_whisper(**{**given, "max_steps": None, "out": str(tmp_path / "other")})


def test_bad_rows_are_reported_and_the_others_train(tables, tiny_whisper, tmp_path):
    (tmp_path / "bad").mkdir()
    table, expected = write_bad_rows(tmp_path / "bad")
    given = options(tables, tiny_whisper, tmp_path / "out", train=str(table), max_steps=1, validation_share=0.2)
    report = train_whisper(**given)
    assert sum(report["data"]["train"]["dropped"].values()) == len(expected)
    assert report["rows"]["train"] + report["rows"]["validation"] == 6
    markdown = (tmp_path / "out" / "data.md").read_text()
    assert all(f"| {line} |" in markdown and kind in markdown for line, kind in expected)


@pytest.mark.parametrize("changed, words", [
    ({"model": "tiny_chat"}, "is a 'llama'; valid is a Whisper"),
    ({"language": "xx"}, "doesn't know the language 'xx'; valid is one of en, es, fr"),
    ({"method": "half"}, "--method is 'half'; valid is full, frozen-encoder, lora"),
    ({"method": "lora", "lora_targets": "q_prog"}, "--lora-targets is 'q_prog'; valid are"),
    ({"preprocess": 5, "noise": True}, "--noise and --speed can't change them"),
    ({"train": "none.csv"}, "there is no table"),
    ({"test": "train"}, "16 of 16 test recordings are also in the training set"),
    ({"other": "english.csv"}, "valid is a CSV and its language"),
    ({"batch_size": 0}, "--batch-size is 0"),
])  # fmt: skip
def test_invalid_trainings_raise_and_leave_no_model(tables, tiny_whisper, tiny_chat, tmp_path, changed, words):
    changed = {name: str(tiny_chat) if value == "tiny_chat" else value for name, value in changed.items()}
    changed |= {"test": str(tables / "train.csv")} if changed.get("test") == "train" else {}
    with pytest.raises((ValueError, OSError), match=words):
        train_whisper(**options(tables, tiny_whisper, tmp_path / "out", **changed))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_training_is_neither_overwritten_nor_resumed_with_other_options(trained, tables, tiny_whisper):
    out, _ = trained
    with pytest.raises(ValueError, match="holds a training already"):
        train_whisper(**options(tables, tiny_whisper, out))
    given = {**json.loads((out / "options.json").read_text()), "resume": True, "epochs": 3.0}
    with pytest.raises(ValueError, match="--epochs was 2 and is 3.0"):
        train_whisper(**given)


def test_out_of_memory_names_the_options_to_change():
    given = Options(train="t.csv", batch_size=8)
    words = r"with --resume: --batch-size 4 --accumulate 2; --checkpointing. Or with another --out: --method lora"
    with pytest.raises(MemoryError, match=words):
        with explain_out_of_memory(given):
            torch.empty(2**62, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="shapes"):
        with explain_out_of_memory(given):
            torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize("batch_size, accumulate, advice", [
    (8, 1, "--batch-size 4 --accumulate 2"),
    (5, 1, "--batch-size 1 --accumulate 5"),
    (5, 4, "--batch-size 2 --accumulate 10"),
    (9, 1, "--batch-size 3 --accumulate 3"),
    (2, 3, "--batch-size 1 --accumulate 6"),
    (1, 8, None),
])  # fmt: skip
def test_the_advice_keeps_the_rows_of_a_step(batch_size, accumulate, advice):
    for checkpointing in (False, True):
        with pytest.raises(MemoryError) as error:
            with explain_out_of_memory(Options(train="t.csv", batch_size=batch_size, accumulate=accumulate,
                                               checkpointing=checkpointing)):  # fmt: skip
                raise MemoryError
        message = str(error.value)
        assert (advice in message) if advice else "--batch-size" not in message
        assert ("--checkpointing" in message) != checkpointing
        assert ("with --resume" in message) == bool(advice or not checkpointing) and "another --out" in message


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_advice_after_running_out_of_memory_can_be_followed(tables, tiny_whisper, tmp_path, method, monkeypatch):
    given = options(tables, tiny_whisper, tmp_path / "out", max_steps=4, evaluate_every=2, learning_rate=1e-2,
                    lora_dropout=0.0, precision="float32", method=method)  # fmt: skip
    expected = losses(train_whisper(**{**given, "out": str(tmp_path / "whole")}))

    def run_out(self, args, state, control, **kwargs):
        on_save(self, args, state, control, **kwargs)
        if state.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    on_save = CheckpointCallback.on_save
    monkeypatch.setattr(CheckpointCallback, "on_save", run_out)
    with pytest.raises(MemoryError, match="--batch-size 2 --accumulate 2; --checkpointing"):
        train_whisper(**given)
    monkeypatch.undo()
    report = train_whisper(**{**given, "batch_size": 2, "accumulate": 2, "checkpointing": True, "resume": True})
    assert losses(report) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="--batch-size was 4 and is 2"):
        train_whisper(**{**given, "batch_size": 2, "resume": True})
    with pytest.raises(ValueError, match="--method was"):
        train_whisper(**{**given, "method": "frozen-encoder", "resume": True})


def test_nothing_that_is_pushed_names_a_path_of_this_machine(trained, tables, tiny_whisper):
    out, _ = trained
    local = {str(tables).encode(), str(tiny_whisper.parent).encode(), str(out.parent).encode()}
    for path in out.rglob("*"):
        pushed = path.relative_to(out).as_posix()
        if path.is_file() and not any(fnmatch(pushed, pattern) for pattern in LOCAL):
            assert not [name for name in local if name in path.read_bytes()], pushed
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == tiny_whisper.name


def test_a_base_is_named_as_others_know_it(tmp_path, monkeypatch):
    assert public_name("base") == "openai/whisper-base" and public_name("org/mine@v1") == "org/mine"
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert public_name("mine") == public_name(str(tmp_path / "mine")) == public_name("./mine/") == "mine"
    snapshot = tmp_path / "models--openai--whisper-tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert public_name(str(snapshot)) == "openai/whisper-tiny"


def test_the_advice_for_a_failed_push_uploads_what_push_does(trained, monkeypatch):
    """The command's own parser takes it, and its patterns leave out what `push` does."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError) as error:
        push(trained[0], "me/mine")
    words = shlex.split(str(error.value).partition("with: ")[2])
    assert words[:4] == ["hf", "upload", "me/mine", str(trained[0])]
    assert words[4::2] == ["--exclude"] * len(LOCAL) and words[5::2] == list(LOCAL)
    files = [path.relative_to(trained[0]).as_posix() for path in trained[0].rglob("*") if path.is_file()]
    kept = set(filter_repo_objects(files, ignore_patterns=words[5::2]))
    assert {"model.safetensors", "README.md", "adapter/adapter_config.json"} <= kept
    assert not [name for name in kept if name.startswith(("checkpoints/", "options.json", "tensorboard/"))]


def test_one_row_with_a_test_set_trains_without_validation(tables, tiny_whisper, tmp_path):
    (tables / "one.csv").write_text("audio,sentence\ntrain0.wav,hola\n")
    given = options(tables, tiny_whisper, tmp_path / "out", train=str(tables / "one.csv"), max_steps=1)
    with pytest.raises(ValueError, match="one row can't be split.*--validation-share 0") as error:
        train_whisper(**given)
    assert "test set" not in str(error.value)
    assert train_whisper(**given, validation_share=0.0)["rows"] == {"train": 1, "validation": 0, "test": 4}
    with pytest.raises(ValueError, match="one row can't be split.*a separate test set"):
        train_whisper(**{**given, "test": None, "out": str(tmp_path / "other")})


def test_shared_sentences_and_speakers_are_in_the_report_and_the_card(trained):
    out, report = trained
    assert report["shared"]["test"] == {"rows": 4, "sentences": 4, "speakers": 0, "speakers_in_both": 0}
    assert report["shared"]["validation"]["sentences"] == 0  # split by sentence
    words = "the sentences of 4 of 4 rows are also there"
    for name in ("report.md", "README.md", "data.md"):
        assert words in (out / name).read_text(), name


def write_dataset(folder, tables, columns, shards=1):
    """Write a dataset of parquet files: the 16 training clips, and these columns."""
    import datasets

    audio = datasets.Features({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    features = datasets.Features({"audio": audio} | {name: datasets.Value("string") for name in columns})
    files = [tables / f"train{i}.wav" for i in range(16)]
    rows = {"audio": [{"bytes": file.read_bytes(), "path": file.name} for file in files], **columns}
    folder.mkdir()
    dataset = datasets.Dataset.from_dict(rows, features=features)
    for i in range(shards):
        dataset.shard(shards, i).to_parquet(folder / f"train-{i:05}-of-{shards:05}.parquet")
    return f"{folder}::train"


@pytest.mark.parametrize("shards", [1, 3])
def test_streamed_rows_come_once_with_any_number_of_workers(tables, tiny_whisper, tmp_path, monkeypatch, shards):
    texts = [f"{SENTENCES[i % 8]} {i}" for i in range(16)]
    texts[3] = ""
    train = write_dataset(tmp_path / "set", tables, {"sentence": texts}, shards)
    results = []
    for workers in (0, 1, 4):

        def with_workers(*args, workers=workers):
            arguments = training_arguments(*args)
            arguments.dataloader_num_workers = workers
            return arguments

        monkeypatch.setattr("finetune.train.training_arguments", with_workers)
        given = options(tables, tiny_whisper, tmp_path / str(workers), train=train, max_steps=4, batch_size=2,
                        accumulate=2, precision="float32")  # fmt: skip
        report = train_whisper(**given)
        data = report["data"]["train"]
        results.append((losses(report), data["rows"], data["dropped"], report["shared"]))
    assert results[0][1:3] == (16, {"no text": 1})
    assert all(result == results[0] for result in results)


def test_a_streamed_epoch_has_each_row_once():
    rows = [Row(str(i), f"frase {i}", i, seconds=1.0 + i / 10) for i in range(64 * 4)]
    for workers in (0, 1, 3):
        dataset = StreamedTrainingDataset(lambda: iter(rows), 4, 0, 0.0)
        loader = DataLoader(dataset, batch_size=4, sampler=dataset, num_workers=workers, collate_fn=list)
        batches = [batch for _, batch in zip(range(64), loader, strict=False)]
        assert sorted(row.line for batch in batches for (row,), _ in batch) == list(range(64 * 4))


def test_fleurs_trains_on_its_text_as_it_was_written(tables, tiny_whisper, tmp_path):
    raw = [f"¡{SENTENCES[i % 8].capitalize()}, {i}!" for i in range(16)]
    columns = {"transcription": [text.lower().strip("¡!") for text in raw], "raw_transcription": raw}
    train = write_dataset(tmp_path / "set", tables, columns)
    assert [row.sentence for row in stream_rows(train)] == raw
    said = []
    report = train_whisper(
        **options(tables, tiny_whisper, tmp_path / "out", train=train, max_steps=1), say=said.append
    )
    (note,) = report["data"]["train"]["notes"]
    assert "the column 'raw_transcription'" in note and any(note in line for line in said)
    assert note in (tmp_path / "out" / "report.md").read_text()


def test_a_failed_push_keeps_the_model_and_explains_how_to_push_it(trained, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="(?s)could not push .* hf upload me/mine"):
        push(trained[0], "me/mine")


def test_yaml_gives_the_same_options(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: a.csv\nlearning-rate: 1e-5\nepochs: 3\nnoise: true\nmax_steps: null\n")
    assert Options(**read_yaml(path)) == Options(train="a.csv", learning_rate=1e-5, epochs=3.0, noise=True)
    wrong = {
        "train: a.csv\nepoch: 3": "has epoch; valid is",
        "- a": "holds list",
        "a: [": "isn't YAML",
        "train: a.csv\nepochs: many": "epochs is 'many'",
    }
    for text, words in wrong.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_yaml(path)


def test_the_learning_rate_suits_the_size_and_the_method(tiny_whisper):
    assert Options(train="a.csv").peak_learning_rate(512) == LEARNING_RATES[512]
    assert Options(train="a.csv").peak_learning_rate(500) == LEARNING_RATES[512]
    assert Options(train="a.csv", method="lora").peak_learning_rate(512) == 1e-3
    assert Options(train="a.csv", learning_rate=3e-6).peak_learning_rate(512) == 3e-6
    assert Options(train="a.csv").share_of_full_windows() == 0.03
    assert Options(train="a.csv", method="lora").share_of_full_windows() == 0
    assert Options(train="a.csv", method="lora", full_windows=0.2).share_of_full_windows() == 0.2
    model = add_lora(load_whisper(tiny_whisper)[0], Options(train="a.csv", method="lora", lora_rank=2))
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 0 < trainable < sum(parameter.numel() for parameter in model.parameters()) / 5


def _exit_with_whether_voice_qa_is_imported():
    sys.exit("hfpipe.pipeline.voice_qa" in sys.modules)


def test_finetune_and_the_voice_qa_pipeline_do_not_import_each_other(processes):
    process = processes.Process(target=_exit_with_whether_voice_qa_is_imported)
    process.start()
    process.join()
    assert process.exitcode == 0
    for file in (ROOT / "hfpipe").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) finetune", file.read_text(encoding="utf-8"), re.MULTILINE), file


def test_the_audio_of_a_row_is_decoded(tables):
    row = read_rows(tables / "train.csv")[0]
    assert math.isclose(len(load(row)) / RATE, 1.0)


def test_a_share_of_the_lora_update_is_merged(tiny_whisper):
    whisper = load_whisper(tiny_whisper)[0]
    before = whisper.model.decoder.layers[0].fc1.weight.detach().clone()
    model = add_lora(whisper, Options(train="a.csv", method="lora", lora_rank=2, lora_alpha=2))
    matrices = dict(model.named_parameters())
    a, b = (next(m for name, m in matrices.items() if f"decoder.layers.0.fc1.lora_{side}" in name) for side in "AB")
    torch.nn.init.ones_(b)
    learned = (b @ a).detach().clone()
    scale_lora(model)
    after = model.merge_and_unload().model.decoder.layers[0].fc1.weight
    torch.testing.assert_close(after, before + LORA_SHARE * learned)
