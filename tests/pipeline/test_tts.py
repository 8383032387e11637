"""Text-to-audio models of transformers: real classes, tiny, with random weights, in folders."""

import json
import time
import warnings

import huggingface_hub
import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from hfpipe.pipeline.audio import Reference
from hfpipe.pipeline.tts_load import load_tts
from hfpipe.pipeline.tts_transformers import TransformersTTS

LETTERS = list(" abcdefghijklmnopqrstuvwxyzáéíóúñ.,!?")


def character_tokenizer(special, **options):
    symbols = [*special, *LETTERS]
    tokenizer = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", **options
    )


@pytest.fixture(scope="session")
def vits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vits")
    symbols = ["_", *LETTERS[:-4]]
    (folder / "symbols.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    tokenizer = transformers.VitsTokenizer(
        str(folder / "symbols.json"), language="spa", pad_token="_", unk_token=" ", phonemize=False
    )
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "depth_separable_num_layers": 1}
    flows = {"prior_encoder_num_flows": 1, "prior_encoder_num_wavenet_layers": 1, "duration_predictor_num_flows": 1}
    sizes = {"hidden_size": 16, "ffn_dim": 32, "flow_size": 16, "duration_predictor_filter_channels": 16}
    vocoder = {"upsample_rates": [8, 8], "upsample_kernel_sizes": [16, 16], "upsample_initial_channel": 16}
    residual = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]], "spectrogram_bins": 9}
    config = transformers.VitsConfig(
        vocab_size=len(symbols),
        posterior_encoder_num_wavenet_layers=1,
        **layers,
        **flows,
        **sizes,
        **vocoder,
        **residual,
    )
    torch.manual_seed(0)
    transformers.VitsModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def speecht5(tmp_path_factory):
    """SpeechT5 with no vocoder and no voice beside it."""
    folder = tmp_path_factory.mktemp("speecht5")
    (folder / "text.txt").write_text("hola a todos qué tal estás\n" * 50 + "abcdefghijklmnopqrstuvwxyz\n" * 5)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "spm_char"),
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    tokenizer = transformers.SpeechT5Tokenizer(str(folder / "spm_char.model"))
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"hidden_size": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "speech_decoder_prenet_units": 8}
    postnet = {"speech_decoder_postnet_units": 8, "speech_decoder_postnet_layers": 1}
    speech = {"conv_dim": (8,), "conv_stride": (2,), "conv_kernel": (3,), "num_conv_pos_embedding_groups": 2}
    config = transformers.SpeechT5Config(
        vocab_size=len(tokenizer),
        max_text_positions=60,
        num_conv_pos_embeddings=4,
        **layers,
        **sizes,
        **postnet,
        **speech,
    )
    torch.manual_seed(0)
    transformers.SpeechT5ForTextToSpeech(config).save_pretrained(folder)
    transformers.SpeechT5Processor(transformers.SpeechT5FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def speaking_speecht5(speecht5):
    """The same model with a tiny vocoder and a voice."""
    shape = {"upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "upsample_initial_channel": 16}
    config = transformers.SpeechT5HifiGanConfig(resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]], **shape)
    torch.manual_seed(0)
    pipe = transformers.pipeline(
        "text-to-audio", model=str(speecht5), vocoder=transformers.SpeechT5HifiGan(config).eval(), device="cpu"
    )
    return TransformersTTS(pipe, np.ones((1, 512), np.float32))


@pytest.fixture(scope="session")
def bark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bark")
    small = {"num_layers": 1, "num_heads": 2, "hidden_size": 16}
    config = transformers.BarkConfig(
        semantic_config={"input_vocab_size": 129_600, "output_vocab_size": 10_048, **small},
        coarse_acoustics_config={"input_vocab_size": 12_096, "output_vocab_size": 12_096, **small},
        fine_acoustics_config={"input_vocab_size": 1056, "output_vocab_size": 1056, "n_codes_total": 8, **small},
        codec_config=transformers.EncodecConfig(
            num_filters=2, hidden_size=16, codebook_dim=16, num_lstm_layers=1
        ).to_dict(),
    )
    torch.manual_seed(0)
    transformers.BarkModel(config).save_pretrained(folder)
    generation = transformers.models.bark.generation_configuration_bark.BarkGenerationConfig(
        semantic_config={"max_new_tokens": 20}
    )
    (folder / "generation_config.json").write_text(json.dumps(generation.to_dict()))
    prompts = {
        "semantic_prompt": np.arange(10),
        "coarse_prompt": np.ones((2, 15), int),
        "fine_prompt": np.ones((8, 20), int),
    }
    for name, prompt in prompts.items():
        np.save(folder / f"{name}.npy", prompt)
    index = {"repo_or_path": str(folder), "v2/es_speaker_0": {name: f"{name}.npy" for name in prompts}}
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(index))
    transformers.BarkProcessor(character_tokenizer(["<pad>", "<unk>"])).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pocket(tmp_path_factory):
    folder, codec_folder = tmp_path_factory.mktemp("pocket"), tmp_path_factory.mktemp("codec")
    names = {"audio_prompt_token": "<voice>", "audio_latent_token": "<latent>", "audio_bos_token": "<start>"}
    tokenizer = character_tokenizer(
        ["<pad>", "<unk>", "<voice>", "<latent>", "<voice_start>", "<start>"],
        padding_side="left",
        extra_special_tokens={**names, "audio_prompt_bos_token": "<voice_start>"},
    )
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    codec = {"num_key_value_heads": 2, "num_filters": 2, "upsample_groups": 16, "latent_dim": 8}
    torch.manual_seed(0)
    transformers.PocketTTSAudioTokenizerModel(
        transformers.PocketTTSAudioTokenizerConfig(**small, **codec)
    ).save_pretrained(codec_folder)
    ids = {f"audio_{name}_id": 2 + i for i, name in enumerate(("prompt_token", "latent_token"))}
    config = transformers.PocketTTSConfig(
        flow_head_config={"hidden_size": 16, "num_hidden_layers": 1, "latent_dim": 8, "condition_dim": 16},
        vocab_size=len(tokenizer),
        latent_dim=8,
        pad_token_id=0,
        audio_prompt_bos_token_id=4,
        audio_bos_token_id=5,
        **ids,
        **small,
    )
    transformers.PocketTTSForConditionalGeneration(config).save_pretrained(folder)
    transformers.PocketTTSProcessor(
        transformers.PocketTTSFeatureExtractor(),
        tokenizer,
        audio_tokenizer=transformers.PocketTTSAudioTokenizerModel.from_pretrained(codec_folder),
        chat_template="{% for message in messages %}"
        "{% for item in message.content if item.type == 'audio' %}<voice_start><voice>{% endfor %}"
        "{% for item in message.content if item.type == 'text' %}{{ item.text }}{% endfor %}<start>{% endfor %}",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def voices():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 48_000)).astype(np.float32)
    return [Reference(samples, 16_000) for samples in noise]


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def speak(tts, *args, **options):
    torch.manual_seed(0)
    waveform = tts(*args, **options)
    assert waveform.dtype == np.float32 and waveform.ndim == 1 and waveform.size
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    return waveform


def assert_saved_copy_says_the_same(tts, folder, *args, **options):
    tts.save_pretrained(folder)
    assert all(path.is_file() for path in folder.iterdir())  # flat
    again = load_tts(folder)
    assert (again.sampling_rate, again.languages, again.clones) == (tts.sampling_rate, tts.languages, tts.clones)
    np.testing.assert_array_equal(speak(again, *args, **options), speak(tts, *args, **options))


def test_vits_speaks_its_language(vits, tmp_path):
    tts = load_tts(vits)
    assert (tts.sampling_rate, tts.languages, tts.clones) == (16_000, ("es",), False)
    assert tts.to("cpu") is tts
    speak(tts, "¡Hola a todos!")
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "Hola.")
    with pytest.raises(ValueError, match="valid is es"):
        tts("Hello.", language="en")
    with pytest.raises(ValueError, match="no letter that this model knows"):
        tts("你好")


def test_a_model_that_cannot_clone_says_so_once(vits, voices):
    tts = load_tts(vits)
    with pytest.warns(UserWarning, match="vits can't imitate a voice"):
        cloned = speak(tts, "Hola.", speaker_wav=voices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(cloned, speak(tts, "Hola.", speaker_wav=voices))
    np.testing.assert_array_equal(cloned, speak(tts, "Hola."))


def test_speecht5_speaks_with_an_x_vector(speaking_speecht5, tmp_path):
    tts = speaking_speecht5
    assert (tts.sampling_rate, tts.languages, tts.clones) == (16_000, None, False)
    other = speak(tts, "hola a todos", speaker_embeddings=np.full(512, -1.0))
    own = speak(tts, "hola a todos")
    assert other.shape != own.shape or not np.array_equal(other, own)
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "hola a todos")
    assert speak(tts, "hola a todos. " * 10).size > own.size  # more than max_text_positions
    with pytest.raises(ValueError, match=r"has shape \(3,\); valid is \(1, 512\)"):
        tts("hola", speaker_embeddings=[1, 2, 3])


def test_speecht5_without_a_voice_says_what_to_give(speaking_speecht5):
    mute = TransformersTTS(speaking_speecht5.pipe)
    with pytest.raises(ValueError, match="give speaker_embeddings="):
        mute("hola")


def test_speecht5_without_a_vocoder_wants_the_hubs(speecht5, no_hub):
    with pytest.raises(OSError, match="speecht5_hifigan"):
        load_tts(speecht5)


@pytest.mark.slow
def test_bark_speaks_with_a_preset(bark, tmp_path):
    tts = load_tts(bark)
    assert (tts.sampling_rate, tts.languages, tts.clones) == (24_000, None, False)
    speak(tts, "hola")
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "hola", voice_preset="v2/es_speaker_0")
    assert speak(tts, "hola a todos. " * 20).size > speak(tts, "hola").size
    with pytest.raises(ValueError, match="valid is v2/es_speaker_0"):
        tts("hola", voice_preset="nobody")


@pytest.mark.slow
def test_pocket_clones(pocket, voices, tmp_path):
    tts = load_tts(pocket)
    assert (tts.sampling_rate, tts.languages, tts.clones) == (24_000, None, True)
    few = {"max_new_tokens": 5}
    base, cloned = speak(tts, "hola.", **few), speak(tts, "hola.", speaker_wav=voices, **few)
    assert base.size == cloned.size == 5 * 1920 and not np.array_equal(base, cloned)
    assert not np.array_equal(cloned, speak(tts, "hola.", speaker_wav=voices[:1], **few))
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "hola.", speaker_wav=voices, **few)
    assert speak(tts, "hola a todos. " * 10, **few).size > 2 * base.size
    (tmp_path / "saved" / "codec.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks its processor or its codec"):
        load_tts(tmp_path / "saved")
    with pytest.raises(ValueError, match="no speech in speaker_wav"):
        tts("hola.", speaker_wav=np.zeros(16_000, np.float32))


@pytest.mark.parametrize("text", ["", " \n"])
def test_refuses_empty_text(vits, text):
    with pytest.raises(ValueError, match="no text"):
        load_tts(vits)(text)


def test_refuses_a_folder_that_is_no_voice(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        load_tts(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        load_tts(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match="bert.*Give a text-to-speech model"):
        load_tts(tmp_path)


def test_refuses_truncated_weights(vits, tmp_path):
    for path in vits.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 2000 if path.suffix == ".safetensors" else None])
    with pytest.raises(ValueError, match="can't load"):
        load_tts(tmp_path)


def test_says_at_once_that_the_hub_has_not_got_it(no_hub):
    started = time.perf_counter()
    for name in ("nobody/nothing", "./nowhere/at/all"):
        with pytest.raises(OSError, match=f"tts='{name}'"):
            load_tts(name)
    assert time.perf_counter() - started < 5


def test_a_speed_that_a_model_does_not_have_is_refused(tiny_vits):
    tts = load_tts(str(tiny_vits))
    with pytest.raises(TypeError, match="can't change its speed"):
        tts("hola", speed=1.5)
