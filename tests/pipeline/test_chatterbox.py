"""Chatterbox: the package's real classes, small and with random weights."""

import builtins
import copy
import importlib.util

import numpy as np
import pytest
import tiny_chatterbox
import torch

import hfpipe
from hfpipe.pipeline import tts_chatterbox
from hfpipe.pipeline.tts_load import load_tts

IS_INSTALLED = importlib.util.find_spec("chatterbox") is not None
installed = pytest.mark.skipif(not IS_INSTALLED, reason=f"chatterbox-tts isn't installed: {tts_chatterbox.INSTALL}")
FEW = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def voice(voice, tmp_path_factory):
    return tiny_chatterbox.cut_voice(voice, tmp_path_factory.mktemp("voice") / "voz.wav")


@pytest.fixture(scope="module")
def s3gen():
    return tiny_chatterbox.seeded(tiny_chatterbox.make_s3gen, True)


@pytest.fixture(scope="module")
def small_t3():
    with tiny_chatterbox.small_t3():
        yield


@pytest.fixture(scope="module", params=[True, False], ids=["multilingual", "english"])
def part(request, small_t3, s3gen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chatterbox")
    model = tiny_chatterbox.seeded(tiny_chatterbox.make_model, folder, request.param, s3gen)
    with torch.no_grad():  # so that what a model hears changes what so small a one says
        model.t3.tfmr.layers[0].self_attn.q_proj.weight.mul_(50)
        model.t3.tfmr.layers[0].self_attn.v_proj.weight.mul_(50)
        model.t3.speech_head.weight.mul_(20)
    return tts_chatterbox.ChatterboxTTS(model)


def speak(tts, text="Hola a todos.", **options):
    torch.manual_seed(0)
    waveform = tts(
        text, language=options.pop("language", tts.languages[-1] if len(tts.languages) == 1 else "es"), **options
    )
    assert waveform.dtype == np.float32 and waveform.ndim == 1 and np.isfinite(waveform).all()
    return waveform


@installed
@pytest.mark.slow
def test_clones_expresses_and_marks(part, voice, monkeypatch):
    assert (part.sampling_rate, part.clones) == (24_000, True)
    conditions, prepare = [], part.model.t3.prepare_conditioning
    monkeypatch.setattr(
        part.model.t3, "prepare_conditioning", lambda given: conditions.append(given) or prepare(given)
    )
    cloned = speak(part, speaker_wav=voice, **FEW)
    assert 0 < cloned.size <= 5 * 960  # 24,000 / 25 samples a token
    for other in ({"cfg_weight": 0.0}, {"temperature": 10.0}):
        assert not np.array_equal(cloned, speak(part, speaker_wav=voice, **FEW | other)), other
    speak(part, speaker_wav=voice, exaggeration=1.5, **FEW)
    assert [float(each.emotion_adv) for each in conditions] == [0.5, 0.5, 0.5, 1.5]
    with torch.inference_mode():
        assert not torch.equal(prepare(conditions[0]), prepare(conditions[-1]))
    resolved = part.resolve_voice(voice)
    assert part.resolve_voice(voice) is resolved
    np.testing.assert_array_equal(cloned, speak(part, voice=resolved, **FEW))
    mark = part.model.watermarker
    assert mark.get_watermark(cloned, part.sampling_rate, round=False).mean() > 0.9
    noise = np.random.default_rng(0).normal(0, 0.1, cloned.size).astype(np.float32)
    assert mark.get_watermark(noise, part.sampling_rate, round=False).mean() < 0.9
    assert not any(layer.self_attn._forward_hooks for layer in part.model.t3.tfmr.layers)


@installed
@pytest.mark.slow
def test_hears_a_voice_as_the_package_does(part, voice):
    ours = part.resolve_voice(voice).tensors
    part.model.prepare_conditionals(voice)
    own = part.resolve_voice().tensors  # what the package prepared is the checkpoint's own voice
    theirs, part.model.conds = part.model.conds, None
    assert own.keys() == ours.keys()
    torch.testing.assert_close(ours["speaker_emb"], theirs.t3.speaker_emb, atol=0.05, rtol=0)  # another resampler
    assert ours["cond_prompt_speech_tokens"].shape == theirs.t3.cond_prompt_speech_tokens.shape
    for name in ("prompt_token", "prompt_token_len", "prompt_feat", "embedding"):
        assert ours[name].shape == theirs.gen[name].shape, name


@installed
@pytest.mark.slow
def test_a_saved_folder_is_the_packages_and_ours(part, voice, s3gen, tmp_path, monkeypatch):
    from chatterbox import mtl_tts, tts

    for module in (tts, mtl_tts):
        monkeypatch.setattr(module, "S3Gen", lambda: copy.deepcopy(s3gen))
    part.save_pretrained(tmp_path)
    assert all(path.is_file() for path in tmp_path.iterdir())  # flat
    with tiny_chatterbox.no_hub():
        again = load_tts(tmp_path)
    assert (type(again), again.languages) == (type(part), part.languages)
    np.testing.assert_array_equal(speak(again, speaker_wav=voice, **FEW), speak(part, speaker_wav=voice, **FEW))
    with pytest.raises(ValueError, match="no voice of its own.*give speaker_wav"):
        again("Hola.", language=again.languages[0])
    vocoder = next(path for path in tmp_path.iterdir() if path.name.startswith("s3gen"))
    vocoder.write_bytes(vocoder.read_bytes()[:5000])
    with tiny_chatterbox.no_hub(), pytest.raises(ValueError, match="isn't a whole Chatterbox"):
        load_tts(tmp_path)
    vocoder.unlink()
    with pytest.raises(FileNotFoundError, match="there is no s3gen"):
        load_tts(tmp_path)


@installed
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text": " "}, ValueError, "no text"),
        ({"language": "xx"}, ValueError, "doesn't speak 'xx'; valid is"),
        ({"exaggeration": -1}, ValueError, "exaggeration is -1"),
        ({"speed": 2}, TypeError, "has no speed; valid are"),
        ({"speaker": "Ana"}, TypeError, "has no speaker"),
    ],
)
def test_refuses_what_it_cannot_do(part, options, error, message):
    with pytest.raises(error, match=message):
        part(**{"text": "Hola.", "language": part.languages[0], **options})


@installed
@pytest.mark.slow
def test_a_pipeline_answers_with_it(part, tiny_whisper, tiny_chat, spoken, voice):
    if not part.is_multilingual:
        pytest.skip("the other speaks Spanish")
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=part, device="cpu")
    result = pipe(spoken, speaker_wav=voice, max_new_tokens=4, tts_kwargs={"exaggeration": 0.7, **FEW})
    assert result["cloned"] and result["sampling_rate"] == 24_000


def test_without_the_package_it_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model": "chatterbox"}')
    real = builtins.__import__

    def refuse(name, *given, **named):
        if name.split(".")[0] == "chatterbox":
            raise ModuleNotFoundError("No module named 'chatterbox'")
        return real(name, *given, **named)

    tts_chatterbox._import_package.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"hfpipe\[chatterbox\].*--no-deps chatterbox-tts"):
        load_tts(tmp_path)
