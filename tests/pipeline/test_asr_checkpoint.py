"""Whatever is given as a Whisper either loads whole, or is refused with what it is and what to give instead."""

import json
import shutil
import zipfile

import pytest
import torch
from conftest import EXAMPLES
from transformers import GenerationConfig, Wav2Vec2Config, Wav2Vec2ForCTC, WhisperForConditionalGeneration
from typer.testing import CliRunner

import hfpipe
from finetune.evaluate import evaluate_whisper
from finetune.whisper import load_whisper
from hfpipe.cli.app import app
from hfpipe.pipeline.asr_whisper import transcribe

runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"})


@pytest.fixture
def copied(tiny_whisper, tmp_path):
    """Return a function that copies the tiny Whisper without some files."""

    def copy(*without, name="mine"):
        folder = shutil.copytree(tiny_whisper, tmp_path / name)
        for file in without:
            (folder / file).unlink()
        return folder

    return copy


def loaders(tiny_chat, tiny_vits):
    return (
        lambda folder: hfpipe.load(str(folder), llm=str(tiny_chat), tts=str(tiny_vits), device="cpu"),
        lambda folder: hfpipe.load_asr(folder),
        lambda folder: load_whisper(folder),
    )


def test_a_whisper_without_generation_config_has_what_its_tokenizer_knows(copied, tiny_whisper, tiny_chat, tiny_vits):
    folder = copied("generation_config.json")
    complete = GenerationConfig.from_pretrained(tiny_whisper)
    for load in loaders(tiny_chat, tiny_vits):
        loaded = load(folder)
        config = (loaded[0] if isinstance(loaded, tuple) else loaded.model).generation_config
        names = ("is_multilingual", "lang_to_id", "task_to_id", "no_timestamps_token_id", "prev_sot_token_id",
                 "decoder_start_token_id", "eos_token_id", "pad_token_id", "max_initial_timestamp_index")  # fmt: skip
        assert {name: getattr(config, name) for name in names} == {name: getattr(complete, name) for name in names}
        assert complete.eos_token_id in config.begin_suppress_tokens
        assert complete.decoder_start_token_id in config.suppress_tokens
        assert config.max_length == 128  # the tiny one's positions, not transformers' 20


def test_a_whisper_without_generation_config_hears_as_with_it(copied, tiny_whisper, spoken):
    folder = copied("generation_config.json")
    texts = []
    for model in (tiny_whisper, folder):
        asr = hfpipe.load_asr(model, precision="float32")
        asr.model.generation_config.suppress_tokens = GenerationConfig.from_pretrained(tiny_whisper).suppress_tokens
        asr.model.generation_config.begin_suppress_tokens = [asr.tokenizer.eos_token_id]
        texts.append(transcribe(asr, [spoken[0][:16000]], "es"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("lacking", ["lang_to_id", "task_to_id", "is_multilingual", "no_timestamps_token_id"])
def test_an_older_generation_config_is_filled_in_and_keeps_what_it_has(copied, tiny_whisper, lacking):
    folder = copied()
    values = json.loads((folder / "generation_config.json").read_text())
    expected = values.pop(lacking)
    (folder / "generation_config.json").write_text(json.dumps(values | {"max_length": 99}))
    config = load_whisper(folder)[0].generation_config
    assert getattr(config, lacking) == expected and config.max_length == 99
    assert config.suppress_tokens == values["suppress_tokens"]


@pytest.mark.parametrize("without, words", [
    (["tokenizer.json", "tokenizer_config.json"], "lacks its tokenizer (tokenizer.json)"),
    (["tokenizer.json"], "lacks its tokenizer (tokenizer.json)"),
    (["preprocessor_config.json"], "lacks its preprocessor_config.json"),
    (["model.safetensors"], "lacks its weights (model.safetensors)"),
    (["model.safetensors", "tokenizer.json"], "weights (model.safetensors) and its tokenizer (tokenizer.json)"),
    (["config.json"], "there is no config.json"),
])  # fmt: skip
def test_missing_files_are_named(copied, tiny_chat, tiny_vits, without, words):
    folder = copied(*without)
    for load in loaders(tiny_chat, tiny_vits):
        with pytest.raises(FileNotFoundError) as error:
            load(folder)
        assert words in str(error.value)
    done = runner.invoke(app, ["transcribe", str(EXAMPLES / "pregunta.wav"), "--model", str(folder), "--out",
                               str(folder / "texts")])  # fmt: skip
    assert done.exit_code == 1 and words in done.stderr and not (folder / "texts").exists()


def test_half_a_tokenizer_is_refused(copied):
    folder = copied("tokenizer.json")
    (folder / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    with pytest.raises(FileNotFoundError, match=r"lacks its merges\.txt"):
        hfpipe.load_asr(folder)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(FileNotFoundError, match="isn't a whole one of Whisper"):
        hfpipe.load_asr(folder)


def _adapter(folder, tiny_whisper):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "openai/base"}')
    (folder / "adapter_model.safetensors").write_bytes(b"x")


def _lora_checkpoint(folder, tiny_whisper):
    _adapter(folder, tiny_whisper)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"x")
    shutil.copy(tiny_whisper / "tokenizer.json", folder)


def _adapter_with_config(folder, tiny_whisper):
    _adapter(folder, tiny_whisper)
    shutil.copy(tiny_whisper / "config.json", folder)


def _ctranslate2(folder, tiny_whisper):
    (folder / "model.bin").write_bytes(b"x")
    (folder / "config.json").write_text('{"alignment_heads": [[0, 0]], "lang_ids": [1], "suppress_ids": []}')
    (folder / "vocabulary.json").write_text("[]")


def _openai(folder, tiny_whisper):
    torch.save({"dims": {}, "model_state_dict": {}}, folder / "base.pt")


def _ggml(folder, tiny_whisper):
    (folder / "ggml-base.bin").write_bytes(b"lmgg1234")


def _gguf(folder, tiny_whisper):
    (folder / "base.gguf").write_bytes(b"GGUF1234")


def _onnx(folder, tiny_whisper):
    shutil.copy(tiny_whisper / "config.json", folder)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "encoder_model.onnx").write_bytes(b"x")


def _mlx(folder, tiny_whisper):
    (folder / "config.json").write_text('{"n_mels": 80}')
    (folder / "weights.npz").write_bytes(b"x")


def _wav2vec2(folder, tiny_whisper):
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    Wav2Vec2ForCTC(
        Wav2Vec2Config(**small, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=1)
    ).save_pretrained(folder)


def _seq2seq(folder, tiny_whisper):
    (folder / "config.json").write_text('{"model_type": "speech-encoder-decoder"}')
    (folder / "model.safetensors").write_bytes(b"x")


def _checkpoints(folder, tiny_whisper):
    for step in (9, 10):
        (folder / f"checkpoint-{step}").mkdir()


def _unfinished(folder, tiny_whisper):
    (folder / "options.json").write_text("{}")
    (folder / "checkpoints" / "checkpoint-10").mkdir(parents=True)


def _one_below(folder, tiny_whisper):
    shutil.copytree(tiny_whisper, folder / "inner")


def _damaged(folder, tiny_whisper):
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes(b"x")


def _empty(folder, tiny_whisper):
    pass


@pytest.mark.parametrize("fill, words", [
    (_adapter, ["is a LoRA adapter", "Give its base, 'openai/base'", "merge_and_unload"]),
    (_adapter_with_config, ["is a LoRA adapter", "'openai/base'"]),
    (_lora_checkpoint, ["is a checkpoint of a LoRA training", "--resume", "merge_and_unload"]),
    (_ctranslate2, ["is a CTranslate2 model", "converted from"]),
    (_openai, ["openai-whisper package", "convert_openai_to_hf", "'openai/whisper-base'"]),
    (_ggml, ["a GGML file", "converted from"]),
    (_gguf, ["a GGUF file", "converted from"]),
    (_onnx, ["an ONNX model"]),
    (_mlx, ["an MLX model"]),
    (_wav2vec2, ["is a 'wav2vec2'; valid is a Whisper"]),
    (_seq2seq, ["is a 'speech-encoder-decoder'; valid is a Whisper"]),
    (_checkpoints, ["holds checkpoints of a training", "checkpoint-10"]),
    (_unfinished, ["isn't finished", "--resume"]),
    (_one_below, ["there is no config.json", "inner"]),
    (_damaged, ["config.json is damaged"]),
    (_empty, ["there is no config.json", "openai/whisper-small"]),
])  # fmt: skip
def test_what_is_no_whisper_is_named_with_what_to_give(tiny_whisper, tiny_chat, tiny_vits, tmp_path, fill, words):
    (folder := tmp_path / "given").mkdir()
    fill(folder, tiny_whisper)
    for load in loaders(tiny_chat, tiny_vits):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            load(folder)
        for word in words:
            assert word in str(error.value)
    done = runner.invoke(app, ["transcribe", str(EXAMPLES / "pregunta.wav"), "--model", str(folder), "--out",
                               str(tmp_path / "texts")])  # fmt: skip
    assert done.exit_code == 1 and words[0] in done.stderr and "Traceback" not in done.output
    assert not (tmp_path / "texts").exists()


@pytest.mark.parametrize("name, data, words", [
    ("base.pt", b"PK\x03\x04", "openai-whisper package"),
    ("ggml-base.bin", b"lmgg", "a GGML file"),
    ("base.bin", b"lmgg", "a GGML file"),
    ("base.gguf", b"GGUF", "a GGUF file"),
    ("encoder_model.onnx", b"\x08\x07", "an ONNX model"),
    ("model.safetensors", b"\x00" * 8, "is a file; valid is"),
])  # fmt: skip
def test_files_are_named_with_what_to_give(tiny_chat, tiny_vits, tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    for load in loaders(tiny_chat, tiny_vits):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / name)


def test_a_file_of_a_model_leads_to_its_folder(tiny_whisper, tiny_chat, tiny_vits):
    for load in loaders(tiny_chat, tiny_vits):
        with pytest.raises(ValueError, match=f"give its folder, '{tiny_whisper}'"):
            load(tiny_whisper / "model.safetensors")


def test_the_adapter_of_a_finished_training_leads_to_the_merged_model(copied, tiny_whisper):
    folder = copied()
    (folder / "adapter").mkdir()
    _adapter(folder / "adapter", tiny_whisper)
    with pytest.raises(ValueError, match=f"merged model is in '{folder}'"):
        hfpipe.load_asr(folder / "adapter")


def test_a_whole_checkpoint_of_a_full_training_is_a_model(copied):
    folder = copied(name="checkpoint-10")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"x")
    assert isinstance(load_whisper(folder)[0], WhisperForConditionalGeneration)


def english_only(folder):
    values = json.loads((folder / "generation_config.json").read_text())
    values = {key: value for key, value in values.items() if key not in ("lang_to_id", "task_to_id")}
    (folder / "generation_config.json").write_text(json.dumps(values | {"is_multilingual": False}))
    return folder


def test_an_english_only_whisper_refuses_spanish(copied, tmp_path):
    folder = english_only(copied())
    table = tmp_path / "t.csv"
    table.write_text(f"audio,sentence\n{EXAMPLES / 'pregunta.wav'},Hola\n")
    with pytest.raises(ValueError, match="hears English alone, not 'es'"):
        hfpipe.load_asr(folder, language="es")
    with pytest.raises(ValueError, match="hears English alone, not 'es'"):
        evaluate_whisper(folder, table, "es")
    commands = (
        ["transcribe", str(EXAMPLES / "pregunta.wav"), "--model", str(folder), "--out", str(tmp_path)],
        ["finetune", "evaluate", str(folder), str(table)],
        ["finetune", "whisper", str(table), "--model", str(folder), "--out", str(tmp_path / "o")],
    )
    for command in commands:
        done = runner.invoke(app, command)
        assert done.exit_code == 1 and "hears English alone, not 'es'" in done.stderr, done.output
    assert not list(tmp_path.glob("*.txt"))
    for language in ("en", "English", None):
        assert hfpipe.load_asr(folder, language=language)


def test_an_english_only_whisper_is_known_by_its_vocabulary(copied):
    """Its tokenizer may know all languages, as OpenAI's do; its end of text is GPT-2's."""
    from transformers import AutoTokenizer

    from hfpipe.pipeline.asr_checkpoint import complete_whisper

    folder = copied("generation_config.json")
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = tokenizer.get_vocab() | {"<|endoftext|>": 50256}

    class Vocabulary:
        get_vocab = staticmethod(lambda: vocabulary)
        encode = tokenizer.encode

    complete_whisper(model, Vocabulary())
    assert not model.generation_config.is_multilingual
    assert 1 in model.generation_config.suppress_tokens and 357 in model.generation_config.suppress_tokens


def test_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(ValueError, match="is a file; valid is the folder"):
        hfpipe.load_asr(tmp_path / "model.zip")
