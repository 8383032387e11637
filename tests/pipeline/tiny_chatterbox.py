"""A Chatterbox of the package's own classes with random weights: the real sizes, or tiny ones."""

import contextlib

import huggingface_hub
import soundfile
import torch
from tokenizers import Tokenizer, models

LETTERS = "abcdefghijklmnopqrstuvwxyzáéíóúñABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?¿¡'-"


def save_vocabulary(path) -> None:
    """Write a vocabulary of letters, in which start and stop have the ids that T3's configuration gives them."""
    names = ["[STOP]", "[UNK]", "[SPACE]", *LETTERS, "\u0301", "\u0303"]
    vocabulary = {name: i for i, name in enumerate(names)} | {"[START]": 255, "[es]": 300, "[en]": 301}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens([name for name in vocabulary if len(name) > 2])
    tokenizer.save(str(path))


@contextlib.contextmanager
def small_t3():
    """Make T3s small within the block: the width and what the package watches, heads of 14 layers, stay."""
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS

    real = LLAMA_CONFIGS["Llama_520M"]
    LLAMA_CONFIGS["Llama_520M"] = real | {"intermediate_size": 64, "num_hidden_layers": 14, "head_dim": 4}
    try:
        yield
    finally:
        LLAMA_CONFIGS["Llama_520M"] = real


@contextlib.contextmanager
def no_hub():
    """Keep the package from asking the Hub for the table of a Chinese script."""
    was, huggingface_hub.constants.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = was


def make_s3gen(is_small: bool):
    """Return the package's S3Gen; a small one keeps one of each kind of its blocks."""
    from chatterbox.models.s3gen import S3Gen

    s3gen = S3Gen().eval()
    if is_small:
        s3gen.tokenizer.encoder.blocks = s3gen.tokenizer.encoder.blocks[:1]
        s3gen.flow.encoder.encoders = s3gen.flow.encoder.encoders[:1]
        s3gen.flow.encoder.up_encoders = s3gen.flow.encoder.up_encoders[:1]
        s3gen.flow.decoder.estimator.mid_blocks = s3gen.flow.decoder.estimator.mid_blocks[:1]
    return s3gen


def make_model(folder, is_multilingual: bool, s3gen):
    """Return the package's model, with a vocabulary that is written into a folder."""
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.modules.t3_config import T3Config
    from chatterbox.models.tokenizers import EnTokenizer, MTLTokenizer
    from chatterbox.models.voice_encoder import VoiceEncoder
    from chatterbox.mtl_tts import ChatterboxMultilingualTTS
    from chatterbox.tts import ChatterboxTTS

    save_vocabulary(folder / "vocabulary.json")
    config = T3Config.multilingual() if is_multilingual else T3Config.english_only()
    kind = ChatterboxMultilingualTTS if is_multilingual else ChatterboxTTS
    with no_hub():
        tokenizer = (MTLTokenizer if is_multilingual else EnTokenizer)(str(folder / "vocabulary.json"))
    return kind(T3(config).eval(), s3gen, VoiceEncoder().eval(), tokenizer, "cpu")


def cut_voice(voice, path):
    """Write the first 3.5 s of a voice, and return where: the longer it is, the longer S3Gen takes."""
    samples, rate = soundfile.read(voice)
    soundfile.write(path, samples[: int(3.5 * rate)], rate)
    return str(path)


def seeded(make, *arguments):
    """Return what a function makes of random weights, the same each time."""
    torch.manual_seed(0)
    return make(*arguments)
