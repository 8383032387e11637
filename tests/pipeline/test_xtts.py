"""XTTS on a real, tiny coqui-tts model with random weights."""

import io
import os
import pickle
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from safetensors.torch import save_file

import hfpipe
from hfpipe.pipeline.audio import Reference
from hfpipe.pipeline.hub_cache import cache_folder
from hfpipe.pipeline.tts_load import load_tts
from hfpipe.pipeline.tts_xtts import XTTS
from hfpipe.pipeline.tts_xtts_checkpoint import XTTS_ID, XTTS_REVISION
from hfpipe.pipeline.tts_xtts_gpt import Decoder
from hfpipe.pipeline.tts_xtts_license import LICENSE_VARIABLE, require_license

pytest.importorskip("TTS")

FILES = ("config.json", "model.pth", "vocab.json", "speakers_xtts.pth")
SAVED = ("config.json", "model.safetensors", "speakers_xtts.safetensors", "vocab.json")
FEW = {"max_new_tokens": 8}  # random weights never say stop


@pytest.fixture(scope="session")
def folder(tiny_xtts):
    """A checkpoint in coqui's layout, with the real classes made small."""
    return tiny_xtts


@pytest.fixture(autouse=True, scope="session")
def voices_elsewhere(tmp_path_factory):
    """Keeps the voices that are computed here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFPIPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def xtts(folder):
    return load_tts(folder)


@pytest.fixture(scope="session")
def voice():
    return Reference(np.random.default_rng(0).normal(0, 0.1, 5 * 24_000).astype(np.float32), 24_000)


@pytest.fixture
def copy(folder, tmp_path):
    """The checkpoint again, to damage: all files but model.pth are copies, which is a link."""
    for name in FILES:
        if name == "model.pth":
            (tmp_path / name).symlink_to(folder / name)
        else:
            shutil.copy(folder / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hugging Face cache, a Hub that can't be reached, and no licence accepted."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path / "hfpipe"))
    monkeypatch.delenv(LICENSE_VARIABLE, raising=False)
    return tmp_path / "hub"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def speak(xtts, *args, **options):
    torch.manual_seed(0)
    return xtts(*args, **FEW, **options)


def test_speaks_in_its_own_voices(xtts):
    assert isinstance(xtts, XTTS) and xtts.clones
    assert xtts.sampling_rate == 24_000
    assert xtts.languages == ("en", "es", "zh")
    assert xtts.speakers == ("Ana", "Luis")
    first = speak(xtts, "Hola a todos.")
    assert first.dtype == np.float32 and first.ndim == 1 and first.size and np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, speak(xtts, "Hola a todos.", speaker="Ana"))
    assert not np.array_equal(first, speak(xtts, "Hola a todos.", speaker="Luis"))


@pytest.mark.slow
def test_clones_a_voice_and_computes_it_once(xtts, voice, monkeypatch):
    base, cloned = speak(xtts, "Hola."), speak(xtts, "Hola.", speaker_wav=voice)
    assert not np.array_equal(base, cloned)
    monkeypatch.setattr(XTTS, "_condition", lambda *_: pytest.fail("it was computed again"))
    monkeypatch.setattr(Decoder, "read_voice", lambda *_: pytest.fail("its keys and values were computed again"))
    np.testing.assert_array_equal(cloned, speak(xtts, "Hola.", speaker_wav=[voice]))
    xtts._voices.clear(), xtts._prefixes.clear()  # as in another process: from the disk
    np.testing.assert_array_equal(cloned, speak(xtts, "Hola.", speaker_wav=voice))
    monkeypatch.undo()
    folder = cache_folder() / "voices"
    kept = min(folder.iterdir(), key=lambda file: file.stat().st_size)
    assert kept.stat().st_size < voice.array.nbytes / 10
    for file in folder.iterdir():
        file.write_bytes(b"spoiled")
    xtts._voices.clear(), xtts._prefixes.clear()
    np.testing.assert_array_equal(cloned, speak(xtts, "Hola.", speaker_wav=voice))


@pytest.mark.slow
def test_another_language_model_or_precision_computes_a_voice_anew(folder, voice, tmp_path, monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path))
    first = XTTS.from_pretrained(folder, precision="float32")
    speak(first, "Hola.", speaker_wav=voice)
    calls = []
    read = Decoder.read_voice
    monkeypatch.setattr(Decoder, "read_voice", lambda self, latents: calls.append(latents) or read(self, latents))
    speak(XTTS.from_pretrained(folder, precision="float32"), "Hola.", speaker_wav=voice)
    assert not calls
    speak(XTTS.from_pretrained(folder, precision="int8"), "Hola.", speaker_wav=voice)
    assert len(calls) == 1
    tuned = XTTS.from_pretrained(folder, precision="float32")
    with torch.no_grad():
        tuned.model.gpt.gpt.h[0].mlp.c_fc.weight += 0.1
    tuned.to("cpu")
    speak(tuned, "Hola.", speaker_wav=voice)
    assert len(calls) == 2


def test_voice_is_what_coqui_computes(xtts, voice, tmp_path, monkeypatch):
    import soundfile
    import torchaudio

    def load(path):  # torchaudio's own needs torchcodec and FFmpeg
        samples, rate = soundfile.read(path, dtype="float32")
        return torch.from_numpy(samples)[None], rate

    monkeypatch.setattr(torchaudio, "load", load)
    at_its_rate = Reference(voice.array, 22_050)  # so that no resampler comes between
    soundfile.write(tmp_path / "voice.wav", at_its_rate.array, 22_050, subtype="FLOAT")
    config = xtts.model.config
    expected = xtts.model.get_conditioning_latents(
        str(tmp_path / "voice.wav"),
        max_ref_length=config.max_ref_len,
        gpt_cond_len=config.gpt_cond_len,
        gpt_cond_chunk_len=config.gpt_cond_chunk_len,
        sound_norm_refs=config.sound_norm_refs,
    )
    for ours, coquis in zip(xtts._condition([at_its_rate]), expected, strict=True):
        torch.testing.assert_close(ours, coquis)


@pytest.mark.slow
def test_speed_and_token_limit_shape_the_waveform(xtts):
    assert speak(xtts, "Hola.", speed=2.0).size < speak(xtts, "Hola.").size
    torch.manual_seed(0)
    assert xtts("Hola.", max_new_tokens=16).size > speak(xtts, "Hola.").size


def test_prints_nothing(folder, capfd):
    speak(load_tts(folder), "Hola.")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_says_all_of_a_long_text(xtts):
    sentence = "Esta es una frase de tamaño medio, con una coma, que se repite. "
    one, several = speak(xtts, sentence), speak(xtts, sentence * 8)
    assert several.size > 2 * one.size
    assert speak(xtts, "1234567890 " * 12).size > one.size  # few characters, but many tokens once in words
    assert speak(xtts, "9" * 60).size > one.size  # too large a number for words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "no text"),
        ({"text": " \n"}, "no text"),
        ({"language": "xx"}, "valid is en, es, zh .*'zh-cn'"),
        ({"language": ""}, "valid is"),
        ({"speaker": "Eva"}, "valid is 'Ana', 'Luis'"),
        ({"speed": 0}, "speed is 0"),
        ({"speaker_wav": np.zeros(16_000, np.float32)}, "no speech in speaker_wav"),
        ({"speaker_wav": []}, "empty list"),
    ],
)
def test_refuses_what_it_cannot_say(xtts, arguments, message):
    with pytest.raises(ValueError, match=message):
        xtts(**{"text": "Hola.", **FEW, **arguments})


def test_refuses_a_missing_reference(xtts):
    with pytest.raises(FileNotFoundError, match="nobody.wav"):
        xtts("Hola.", speaker_wav="nobody.wav")


@pytest.mark.slow
def test_saves_and_loads_again(xtts, voice, tmp_path):
    xtts.save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == sorted(SAVED)
    again = load_tts(str(tmp_path / "saved"))
    assert again.speakers == xtts.speakers and again.languages == xtts.languages
    for options in ({}, {"speaker_wav": voice}):
        np.testing.assert_array_equal(speak(again, "Hola.", **options), speak(xtts, "Hola.", **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "speakers_xtts.safetensors", "voice_Eva.safetensors"])
def test_a_truncated_copy_is_refused(folder, voice, tmp_path, name):
    part = load_tts(folder)
    part.save_voice("Eva", voice)
    part.save_pretrained(tmp_path)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    with pytest.raises(ValueError, match=f"{name}.*damaged"):
        load_tts(tmp_path)


@pytest.mark.slow
def test_a_saved_voice_is_the_recordings_and_travels(folder, voice, tmp_path):
    part = load_tts(folder)
    part.save_voice("Eva María", voice, consent_by="Eva María Ruiz", consent_on="2026-01-31")
    assert part.speakers == ("Ana", "Luis", "Eva María")
    part.save_pretrained(tmp_path)
    again = load_tts(tmp_path)
    kept = again.saved_voices["Eva María"]
    assert (kept.consent_by, kept.consent_on) == ("Eva María Ruiz", "2026-01-31")
    cloned = speak(part, "Hola.", speaker_wav=voice)
    for each in (part, again):
        np.testing.assert_array_equal(speak(each, "Hola.", speaker="Eva María"), cloned)
    assert not np.array_equal(speak(part, "Hola.")[:100], cloned[:100])
    size = (tmp_path / "voice_Eva María.safetensors").stat().st_size
    assert size < voice.array.nbytes / 10  # latents, and not the recording


@pytest.mark.slow
def test_a_voice_needs_a_name_and_a_consent(folder, voice):
    part = load_tts(folder)
    assert part.save_voice("Eva", voice).consent_by == "Eva"
    for wrong in ({"name": "../Eva"}, {"name": ""}, {"name": "a/b"}, {"name": "Ana"}, {"name": "Eva"}):
        with pytest.raises(ValueError, match="called|already"):
            part.save_voice(speaker_wav=voice, **wrong)
    for wrong in ({"consent_by": " "}, {"consent_on": "ayer"}, {"consent_on": "2999-01-01"}):
        with pytest.raises(ValueError, match="consent_"):
            part.save_voice("Otra", voice, **wrong)
    assert part.speakers == ("Ana", "Luis", "Eva")
    with pytest.raises(ValueError, match="give one"):
        part("Hola.", speaker_wav=voice, speaker="Eva")


@pytest.mark.slow
def test_a_strangers_voice_writes_nowhere_else(folder, voice, tmp_path):
    """The name in a voice's metadata becomes a file's name when it is saved again."""
    part = load_tts(folder)
    tensors = part.save_voice("Eva", voice).tensors
    part.save_pretrained(tmp_path)
    metadata = {"name": "../../Eva", "consent_by": "Eva", "consent_on": "2026-01-31"}
    save_file(tensors, tmp_path / "voice_Eva.safetensors", metadata)
    with pytest.raises(ValueError, match="voice_Eva.safetensors is damaged"):
        load_tts(tmp_path)
    save_file({"style": torch.zeros(1)}, tmp_path / "voice_Eva.safetensors", {**metadata, "name": "Eva"})
    with pytest.raises(ValueError, match="another model's"):
        load_tts(tmp_path)


def test_needs_some_voice(copy, voice):
    (copy / "speakers_xtts.pth").unlink()
    xtts = XTTS.from_pretrained(copy)
    with pytest.raises(ValueError, match="give speaker_wav"):
        xtts("Hola.")
    assert speak(xtts, "Hola.", speaker_wav=voice).size


@pytest.mark.parametrize("name", ["config.json", "model.pth", "vocab.json"])
def test_names_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name}"):
        XTTS.from_pretrained(copy)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["model.pth", "speakers_xtts.pth"])
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_never_runs_a_pickle(copy, name, save):
    trace = copy / "it-ran"
    (copy / name).unlink()
    save({"model": Malicious(trace)}, copy / name)
    with pytest.raises(ValueError, match="nothing in it was run"):
        XTTS.from_pretrained(copy)
    assert not trace.exists()


@pytest.mark.slow
def test_reads_coquis_own_checkpoints(copy, folder, xtts, monkeypatch):
    """They hold their config as objects, named where the classes once were, and names that training added."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig

    state = torch.load(folder / "model.pth", weights_only=True)["model"]
    state = {f"xtts.{name}": tensor for name, tensor in state.items()}
    state |= {"xtts.gpt.gpt_inference.lm_head.1.bias": torch.zeros(1026), "dvae.decoder.0.bias": torch.zeros(3)}
    (copy / "model.pth").unlink()
    with monkeypatch.context() as formerly:
        for moved in (XttsArgs, XttsAudioConfig):
            formerly.setattr(moved, "__module__", "TTS.tts.models.xtts")
        torch.save({"config": XttsConfig(), "model": state}, copy / "model.pth")
    np.testing.assert_array_equal(speak(XTTS.from_pretrained(copy), "Hola."), speak(xtts, "Hola."))


@pytest.mark.parametrize("length", [0, 100, 1_000_000])
def test_refuses_truncated_weights(copy, folder, length):
    (copy / "model.pth").unlink()
    with open(folder / "model.pth", "rb") as whole:
        (copy / "model.pth").write_bytes(whole.read(length))
    with pytest.raises(ValueError, match="model.pth (is damaged or truncated|isn't a file of plain weights)"):
        XTTS.from_pretrained(copy)


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_refuses_truncated_json(copy, name):
    (copy / name).write_text((copy / name).read_text()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        XTTS.from_pretrained(copy)


def test_refuses_weights_of_another_model(copy):
    (copy / "model.pth").unlink()
    torch.save({"model": {"gpt.text_head.bias": torch.zeros(7)}}, copy / "model.pth")
    with pytest.raises(ValueError, match="don't fit"):
        XTTS.from_pretrained(copy)


def test_downloads_only_with_the_licence(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))  # not a terminal: nobody to ask
    with pytest.raises(OSError, match="coqui/XTTS-v2.*can't be reached.*hfpipe.offline_repo") as error:
        load_tts(XTTS_ID)
    assert not isinstance(error.value, PermissionError), "nobody is asked about what can't be had"

    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        with pytest.raises(PermissionError, match="coqui.ai/cpml.*COQUI_TOS_AGREED=1"):
            load_tts(XTTS_ID)
        monkeypatch.setenv(LICENSE_VARIABLE, "1")
        with pytest.raises(OSError, match="coqui/XTTS-v2.*can't be downloaded.*hfpipe.offline_repo") as error:
            load_tts(XTTS_ID)
        assert not isinstance(error.value, PermissionError)
        server.shutdown()


def test_remembers_a_yes_and_only_a_yes(hub, monkeypatch, capsys):
    for answer in ("\n", "no\n", ""):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with pytest.raises(PermissionError):
            require_license()
        assert not cache_folder().exists()
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    require_license()
    assert "non-commercial" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    require_license()
    assert capsys.readouterr().out == ""


def test_official_weights_are_used_from_the_cache_and_not_copied(hub, folder, tmp_path):
    snapshot = hub / "models--coqui--XTTS-v2" / "snapshots" / XTTS_REVISION
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folder)
    xtts = load_tts(XTTS_ID)
    assert speak(xtts, "Hola.").size
    with pytest.raises(ValueError, match=f"{XTTS_ID}@{XTTS_REVISION}"):
        xtts.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_says_what_a_wrong_name_is():
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere"):
        XTTS.from_pretrained("./nowhere")


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", "/somewhere")
    assert str(cache_folder()) == "/somewhere"
    monkeypatch.delenv("HFPIPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(cache_folder()) == "/caches/hfpipe"


@pytest.mark.slow
def test_the_pipeline_answers_in_the_cloned_voice(tiny_whisper, tiny_chat, folder):
    pipe = hfpipe.load(tiny_whisper, llm=tiny_chat, tts=folder)
    options = {"speaker_wav": str(EXAMPLES / "voz.wav"), "compare": True, "max_new_tokens": 4, "tts_kwargs": FEW}
    result = pipe(str(EXAMPLES / "pregunta.wav"), **options)
    assert result["cloned"] is True and result["sampling_rate"] == 24_000
    assert not np.array_equal(result["audio"], result["audio_base"])
    assert result["timings"]["tts_base"] > 0
