"""Models of transformers that imitate a recording: real classes, tiny, with random weights, in folders."""

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from test_tts import assert_saved_copy_says_the_same, character_tokenizer, speak, voices  # noqa: F401
from transformers import AutoProcessor

import hfpipe
from finetune.voice.transformers_models import encode_clip
from hfpipe.pipeline.audio import Reference, resample
from hfpipe.pipeline.engine import Engine
from hfpipe.pipeline.engine_request import Request
from hfpipe.pipeline.tts_load import load_tts
from hfpipe.pipeline.tts_transformers_clone import frames_per_second

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WIDE = {"initializer_range": 0.5}  # so that what a model hears changes what so small a one says
FEW = {"max_new_tokens": 40}  # more than Dia's longest delay, 15
TEMPLATE = (  # in the layout of CSM: who speaks, what is said, how it sounds
    "{% for message in messages %}[{{ message.role }}]{% for item in message.content %}"
    "{% if item.type == 'text' %}{{ item.text }}{% else %}AUDIO{% endif %}{% endfor %}{% endfor %}"
)


def tokenizer_with(*special):
    return character_tokenizer(["<pad>", "<unk>", *special], additional_special_tokens=list(special))


@pytest.fixture(scope="module")
def csm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csm")
    tokenizer = tokenizer_with("<|AUDIO|>", "<|audio_eos|>")
    codes = {"num_codebooks": 4, "vocab_size": 64, "num_key_value_heads": 2, **SMALL, **WIDE}
    codec = transformers.MimiConfig(
        num_key_value_heads=2,
        num_filters=2,
        head_dim=8,
        codebook_size=64,  # all of them: random weights draw any
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=4,
        num_semantic_quantizers=1,
        upsample_groups=16,
        **SMALL,
    )
    config = transformers.CsmConfig(
        text_vocab_size=len(tokenizer),
        pad_token_id=0,
        bos_token_id=0,
        codebook_pad_token_id=63,
        codebook_eos_token_id=0,
        audio_token_id=2,
        audio_eos_token_id=3,
        depth_decoder_config={"backbone_hidden_size": 16, "max_position_embeddings": 5, **codes},
        codec_config=codec,
        **codes,
    )
    torch.manual_seed(0)
    model = transformers.CsmForConditionalGeneration(config)
    for name, buffer in model.codec_model.named_buffers():
        if name.endswith("embed_sum"):  # Mimi's codebooks are zero until they are loaded
            buffer.normal_()
    model.save_pretrained(folder)
    template = TEMPLATE.replace("AUDIO", "<|AUDIO|><|audio_eos|>")
    extractor = transformers.EncodecFeatureExtractor(sampling_rate=24_000)
    transformers.CsmProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dia(tmp_path_factory):
    folder, codec_folder = tmp_path_factory.mktemp("dia"), tmp_path_factory.mktemp("dac")
    torch.manual_seed(0)
    codec = transformers.DacModel(
        transformers.DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=9, codebook_dim=4, sampling_rate=44_100
        )
    )
    codec.save_pretrained(codec_folder)
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    cross = {"cross_num_attention_heads": 2, "cross_head_dim": 8, "cross_num_key_value_heads": 2}
    config = transformers.DiaConfig(
        encoder_config={**SMALL, **heads}, decoder_config={"cross_hidden_size": 16, **SMALL, **heads, **cross}
    )
    transformers.DiaForConditionalGeneration(config).save_pretrained(folder)
    transformers.DiaProcessor(
        transformers.DiaFeatureExtractor(sampling_rate=44_100, hop_length=512),
        transformers.DiaTokenizer(),
        audio_tokenizer=transformers.DacModel.from_pretrained(codec_folder),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def higgs(tmp_path_factory):
    folder, codec_folder = tmp_path_factory.mktemp("higgs"), tmp_path_factory.mktemp("higgs_codec")
    tokenizer = tokenizer_with("<|AUDIO_OUT|>", "<|audio_out_bos|>", "<|audio_eos|>", "<|reserved_special_token_6|>")
    semantic = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, **SMALL}
    ratios = dict.fromkeys(("downsampling_ratios", "upsampling_ratios"), [8, 5, 4, 2, 3])  # 25 frames a second
    acoustic = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "hidden_size": 16, "codebook_dim": 4, **ratios}
    torch.manual_seed(0)
    codec = transformers.HiggsAudioV2TokenizerModel(
        transformers.HiggsAudioV2TokenizerConfig(
            acoustic_model_config=acoustic, semantic_model_config=semantic, codebook_dim=4, target_bandwidths=[2]
        )
    )
    codec.save_pretrained(codec_folder)
    config = transformers.HiggsAudioV2Config(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=4,
        num_codebooks=codec.config.num_quantizers,
        codebook_size=1026,
        audio_token_id=2,
        audio_bos_token_id=3,
        audio_delay_token_id=5,
        **SMALL,
        **WIDE,
    )
    transformers.HiggsAudioV2ForConditionalGeneration(config).save_pretrained(folder)
    template = TEMPLATE.replace("AUDIO", "<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>")
    transformers.HiggsAudioV2Processor(
        transformers.DacFeatureExtractor(sampling_rate=24_000, hop_length=codec.config.hop_length),
        tokenizer,
        audio_tokenizer=transformers.HiggsAudioV2TokenizerModel.from_pretrained(codec_folder),
        chat_template=template + "{% if add_generation_prompt %}<|audio_out_bos|>{% endif %}",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vibevoice(tmp_path_factory):
    pytest.importorskip("diffusers", reason="VibeVoice needs diffusers, of the extra vibevoice")
    folder = tmp_path_factory.mktemp("vibevoice")
    tokenizer = tokenizer_with("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
    codec = {"hidden_size": 4, "num_filters": 2, "downsampling_ratios": [2, 2, 4], "depths": [1, 1, 1, 1]}
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "max_position_embeddings": 512, **SMALL}
    config = transformers.VibeVoiceConfig(
        audio_config={"model_type": "vibevoice_acoustic_tokenizer", **codec},
        semantic_model_config={"model_type": "vibevoice_acoustic_tokenizer_encoder", **codec},
        text_config={"model_type": "qwen2", **text},
        diffusion_head_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "intermediate_size": 16,
            "latent_size": 4,
            "frequency_embedding_size": 16,
        },
        pad_token_id=0,
        eos_token_id=0,
        audio_bos_token_id=2,
        audio_eos_token_id=3,
        audio_token_id=4,
    )
    torch.manual_seed(0)
    transformers.VibeVoiceForConditionalGeneration(config).save_pretrained(folder)
    extractor = transformers.VibeVoiceAcousticTokenizerFeatureExtractor(pad_to_multiple_of=16)
    template = TEMPLATE.replace("AUDIO", "<|vision_start|><|vision_pad|><|vision_end|>") + "<|vision_start|>"
    transformers.VibeVoiceProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["csm", "dia", "higgs"])
def test_clones_a_recording_with_its_words(name, request, voices, tmp_path):  # noqa: F811
    tts = load_tts(request.getfixturevalue(name))
    assert tts.clones and tts.wants_speaker_text and tts.languages is None
    said = {"speaker_wav": voices, "speaker_text": "esto digo yo", **FEW}
    base, cloned = speak(tts, "hola.", **FEW), speak(tts, "hola.", **said)
    assert not np.array_equal(base, cloned)
    for other in ({"speaker_wav": voices[:1]}, {"speaker_text": "otra cosa"}):  # each counts
        assert not np.array_equal(cloned, speak(tts, "hola.", **said | other))
    assert max(base.size, cloned.size) <= FEW["max_new_tokens"] * tts.sampling_rate / frames_per_second(tts.pipe) * 1.1
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "hola.", **said)
    assert speak(tts, "hola a todos. " * 20, **FEW).size > 1.5 * base.size
    with pytest.raises(ValueError, match="give the words as speaker_text"):
        tts("hola.", speaker_wav=voices)
    long = Reference(np.ones(21 * 16_000, np.float32), 16_000)
    with pytest.raises(ValueError, match=r"lasts 21 s; .* at most 20 s.*10 to 15 s"):
        tts("hola.", speaker_wav=long, speaker_text="largo")


@pytest.mark.parametrize("name", ["dia", "higgs"])
def test_a_saved_model_without_its_codec_says_so(name, request, tmp_path):
    load_tts(request.getfixturevalue(name)).save_pretrained(tmp_path)
    (tmp_path / "codec.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks its processor or its codec"):
        load_tts(tmp_path)


def test_vibevoice_clones_without_words(vibevoice, voices, tmp_path):  # noqa: F811
    tts = load_tts(vibevoice)
    assert (tts.sampling_rate, tts.clones, tts.wants_speaker_text) == (24_000, True, False)
    assert tts.requirements == ("diffusers",)
    few = {"max_new_tokens": 6, "num_diffusion_steps": 2}
    base, cloned = speak(tts, "hola.", **few), speak(tts, "hola.", speaker_wav=voices, **few)
    assert base.shape != cloned.shape or not np.array_equal(base, cloned)
    assert_saved_copy_says_the_same(tts, tmp_path / "saved", "hola.", speaker_wav=voices, **few)


def test_vibevoice_without_diffusers_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "vibevoice"}')
    monkeypatch.setattr("hfpipe.pipeline.tts_transformers.is_diffusers_available", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'hfpipe\[vibevoice\]'"):
        load_tts(tmp_path)


def test_whisper_writes_down_a_reference_once(asr, csm, spoken, voice, monkeypatch):
    tts = load_tts(csm)
    engine = Engine(asr, None, tts)
    request = Request().updated(speaker_wav=voice, tts_kwargs=FEW)
    asked = engine.voice(request)["voice"]
    [(words, _)] = hfpipe.pipeline.engine.transcribe(asr, [request.speaker_wav[0].array], None)
    assert asked.words == words
    with monkeypatch.context() as changed:
        changed.setattr("hfpipe.pipeline.engine.transcribe", None)  # it isn't called again
        assert engine.voice(request)["voice"].words == words
        given = request.updated(speaker_wav=voice, speaker_text="esto digo yo")
        assert engine.voice(given)["voice"].words == "esto digo yo"
    assert engine.voice(Request())["voice"] is None


def test_the_words_go_with_their_recording(voice):
    request = Request().updated(speaker_wav=voice, speaker_text="hola")
    assert request.updated(language="en").speaker_text == "hola"
    assert request.updated(speaker_wav=voice).speaker_text is None
    assert request.in_own_voice().speaker_text is None
    with pytest.raises(ValueError, match="give the recording as well"):
        Request().updated(speaker_text="hola")


def test_a_reference_without_words_is_refused(asr, csm, voice, monkeypatch):
    def understand_nothing(*_):
        raise hfpipe.NoSpeech("nothing")

    monkeypatch.setattr("hfpipe.pipeline.engine.transcribe", understand_nothing)
    with pytest.raises(ValueError, match="no word of speaker_wav.*speaker_text"):
        Engine(asr, None, load_tts(csm)).voice(Request().updated(speaker_wav=voice))


def test_a_pipeline_answers_in_a_cloned_voice(tiny_whisper, tiny_chat, csm, spoken, voice, tmp_path):
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(csm), device="cpu")
    options = {"max_new_tokens": 4, "tts_kwargs": FEW}
    result = pipe(spoken, speaker_wav=voice, **options)
    assert result["cloned"] and result["audio"].size
    pipe.save_pretrained(tmp_path)
    assert (tmp_path / "tts_transformers_clone.py").is_file()
    assert AutoProcessor.from_pretrained(tmp_path / "tts").audio_token_id == 2


@pytest.mark.parametrize("name", ["csm", "dia", "higgs", "vibevoice"])
def test_its_forward_pass_trains_it(name, request, voices):  # noqa: F811
    tts = load_tts(request.getfixturevalue(name))
    model, samples = tts.pipe.model, resample(voices[0].array, 16_000, tts.sampling_rate)
    lora = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    trained = [parameter for parameter in lora.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=0.05), []
    inputs = encode_clip(tts, "esto digo yo", samples)
    for _ in range(4):
        torch.manual_seed(0)  # of VibeVoice's noise
        losses.append(lora(**inputs).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_other_models_cannot_be_trained(tiny_vits):
    with pytest.raises(ValueError, match="vits can't be trained here; valid are csm, dia"):
        encode_clip(load_tts(str(tiny_vits)), "hola", np.zeros(16_000, np.float32))
