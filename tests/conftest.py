"""Tiny real models, made here with random weights: no network, no mocks of transformers' classes."""

import json
import os
import threading
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads make a busy machine crawl

import pytest
import soundfile
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

import hfpipe

EXAMPLES = Path(__file__).parent.parent / "examples"
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROOM = 128  # tokens that the tiny Whisper can write
BYTES = list(bytes_to_unicode().values())
WHISPER_LANGUAGES = ("en", "es", "fr")
WHISPER_SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in WHISPER_LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]


def byte_tokenizer(special: list[str]) -> Tokenizer:
    """Makes a tokenizer whose tokens are the 256 bytes and the special ones."""
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(BYTES)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


def all_but_letters(size: int, spared: set[int]) -> list[int]:
    """Lists the token ids to suppress so that random weights spell lower-case words."""
    letters = {BYTES.index(letter) for letter in "abcdefghijklmnopqrstuvwxyz"}
    return [token for token in range(size) if token not in letters | spared]


def save_tiny_whisper(folder: Path) -> Path:
    """Writes a multilingual Whisper of one layer, with a real Whisper tokenizer of bytes, that spells letters.

    Its positions for tokens are cut from 448: random weights write until there is no room left.
    """
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(WHISPER_SPECIAL)
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False) for i in range(1501)])
    ids = tokenizer.get_vocab()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(ids),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = WhisperForConditionalGeneration(config)
    decoder, config.max_target_positions = model.get_decoder(), ROOM
    stamps = {i for name, i in ids.items() if name.startswith("<|") and name[2].isdigit()}
    decoder.embed_tokens.weight.data[sorted(stamps)] = -0.6  # with this bias, together less likely than a letter
    decoder.layer_norm.bias.data.fill_(1.0)
    decoder.embed_positions.weight = torch.nn.Parameter(decoder.embed_positions.weight[:ROOM].detach().clone())
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        max_length=24,
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": ids[f"<|{language}|>"] for language in WHISPER_LANGUAGES},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=50,
        return_timestamps=False,
        suppress_tokens=all_but_letters(config.vocab_size, {end} | stamps),
        begin_suppress_tokens=[end],
    )
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "WhisperTokenizer", "extra_special_tokens": WHISPER_SPECIAL}
    settings |= dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def save_tiny_chat(folder: Path, template: str | None = CHAT_TEMPLATE) -> Path:
    """Writes a chat Llama of one layer over bytes, that spells letters."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["<|end|>"]), eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = template
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=end, suppress_tokens=all_but_letters(len(tokenizer), set())
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_text2text(folder: Path) -> Path:
    """Writes a T5 of one layer over bytes, that spells letters."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["<pad>", "</s>"]), eos_token="</s>", pad_token="<pad>"
    )
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=pad,
        pad_token_id=pad,
        eos_token_id=end,
    )
    model = T5ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=pad,
        pad_token_id=pad,
        eos_token_id=end,
        suppress_tokens=all_but_letters(len(tokenizer), set()),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_vits(folder: Path) -> Path:
    """Writes a VITS voice of one layer that reads lower-case letters."""
    torch.manual_seed(0)
    vocabulary = {symbol: i for i, symbol in enumerate("_ abcdefghijklmnopqrstuvwxyz?.,")}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    VitsTokenizer(
        str(folder / "vocab.json"), language="spa", phonemize=False, pad_token="_", unk_token="_"
    ).save_pretrained(folder)
    config = VitsConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_flows=1,
        posterior_encoder_num_wavenet_layers=1,
        prior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        wavenet_dilation_rate=1,
    )
    VitsModel(config).save_pretrained(folder)
    return folder


def save_tiny_xtts(folder: Path) -> Path:
    """Writes an XTTS checkpoint in coqui's layout, of two layers, with two voices of its own."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
    from TTS.tts.models.xtts import Xtts

    folder.mkdir(exist_ok=True)
    special = ["[STOP]", "[UNK]", "[SPACE]", "[es]", "[en]", "[START]"]
    symbols = special + list("abcdefghijklmnopqrstuvwxyzáéíóúñü¿?!.,;:-'")
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, [], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "vocab.json"))

    small = {"gpt_layers": 2, "gpt_n_model_channels": 64, "gpt_n_heads": 4, "decoder_input_dim": 64}
    tokens = {"gpt_num_audio_tokens": 1026, "gpt_start_audio_token": 1024, "gpt_stop_audio_token": 1025}
    args = XttsArgs(gpt_use_perceiver_resampler=True, **small, **tokens)
    torch.manual_seed(0)
    model = Xtts(XttsConfig(model_args=args, languages=["en", "es", "zh-cn"]))
    model.tokenizer = VoiceBpeTokenizer(vocab_file=folder / "vocab.json")
    model.init_models()
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    model.config.save_json(str(folder / "config.json"))
    speakers = {
        name: {"gpt_cond_latent": torch.randn(1, 32, 64), "speaker_embedding": torch.randn(1, 512, 1)}
        for name in ("Ana", "Luis")
    }
    torch.save(speakers, folder / "speakers_xtts.pth")
    return folder


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory):
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def asr(tiny_whisper):
    """The stock speech recognition pipeline around a tiny Whisper whose letters depend on what it hears."""
    asr = pipeline("automatic-speech-recognition", model=str(tiny_whisper), device="cpu")
    attention = asr.model.get_decoder().layers[0].encoder_attn  # what is heard must show in the letters
    attention.v_proj.weight.data *= 60
    attention.out_proj.weight.data *= 60
    return asr


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory):
    return save_tiny_chat(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="session")
def tiny_text2text(tmp_path_factory):
    return save_tiny_text2text(tmp_path_factory.mktemp("text2text"))


@pytest.fixture(scope="session")
def tiny_vits(tmp_path_factory):
    return save_tiny_vits(tmp_path_factory.mktemp("vits"))


@pytest.fixture(scope="session")
def tiny_xtts(tmp_path_factory):
    return save_tiny_xtts(tmp_path_factory.mktemp("xtts"))


@pytest.fixture(scope="session")
def spoken():
    """The spoken example question: a float32 waveform and its rate in Hz."""
    return soundfile.read(EXAMPLES / "pregunta.wav", dtype="float32")


@pytest.fixture(scope="session")
def voice():
    """The path of the synthetic reference voice."""
    return str(EXAMPLES / "voz.wav")


@pytest.fixture(scope="session")
def voice_qa(tiny_whisper, tiny_chat, tiny_vits):
    """The pipeline, of tiny models."""
    return hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_vits), device="cpu")


@pytest.fixture(scope="session")
def offline_pipe():
    """The pipeline, of the offline models, loaded as by default. A test that changes it changes it back."""
    return hfpipe.load(hfpipe.offline_repo())


@pytest.fixture
def make(voice_qa, monkeypatch):
    """Gives the pipeline an LLM and a voice of the test's own."""
    from own_parts import Talker, Whistle

    def make(llm=None, tts=None):
        monkeypatch.setattr(voice_qa, "llm", llm or Talker())
        monkeypatch.setattr(voice_qa, "tts", tts or Whistle())
        return voice_qa

    return make


@pytest.fixture
def new_threads():
    """A function that returns the names of hfpipe's threads that the test began; servers of other tests may run."""
    before = set(threading.enumerate())
    return lambda: [t.name for t in threading.enumerate() if t not in before and t.name.startswith("hfpipe")]


@pytest.fixture
def no_thread_is_left(new_threads):
    """Refuses tests that leave a thread of hfpipe behind."""
    from own_parts import wait_until

    yield
    assert wait_until(lambda: not new_threads())
