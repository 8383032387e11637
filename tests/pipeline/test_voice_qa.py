"""The pipeline whole, on tiny real models: a Whisper, an LLM and a VITS voice with random weights."""

import json
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
import torch
from conftest import EXAMPLES, save_tiny_whisper
from transformers import AutoConfig, WhisperForConditionalGeneration, pipeline

import hfpipe
from hfpipe.pipeline.audio import load_question
from hfpipe.pipeline.errors import explain_out_of_memory
from hfpipe.pipeline.hub_access import DEFAULT_PARTS, DEFAULT_WHISPER
from hfpipe.pipeline.hub_parts import Source
from hfpipe.pipeline.voice_qa import VoiceQAPipeline

QUESTION = str(EXAMPLES / "pregunta.wav")
SHORT = {"max_new_tokens": 6}


@pytest.fixture(scope="module")
def pipe(tiny_whisper, tiny_chat, tiny_vits):
    return pipeline("voice-qa", model=str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_vits), device="cpu")


@pytest.fixture
def whisper_folder(tmp_path):
    """A tiny Whisper of the test's own, to write a `voice_qa` section into."""

    def make(**voice_qa):
        save_tiny_whisper(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"voice_qa": voice_qa}))
        return str(tmp_path)

    return make


def test_answers_a_question(pipe):
    result = pipe(QUESTION, **SHORT)
    assert isinstance(pipe, VoiceQAPipeline)
    assert set(result) == {"question", "answer", "language", "audio", "sampling_rate", "cloned", "timings"}
    assert result["question"].isalpha() and result["answer"].removesuffix("…").isalpha()
    assert result["language"] == "es" and result["cloned"] is False
    assert result["audio"].dtype == np.float32 and result["audio"].ndim == 1 and len(result["audio"]) > 0
    assert np.abs(result["audio"]).max() <= 1
    assert result["sampling_rate"] == pipe.tts.sampling_rate


def test_all_but_the_waveforms_is_json(pipe):
    result = pipe(QUESTION, **SHORT)
    assert isinstance(result.pop("audio"), np.ndarray)
    assert json.loads(json.dumps(result)) == result


def test_timings_add_up(pipe, voice):
    start = time.perf_counter()
    with pytest.warns(UserWarning, match="own"):
        timings = pipe(QUESTION, speaker_wav=voice, compare=True, **SHORT)["timings"]
    elapsed = time.perf_counter() - start
    assert set(timings) == {"asr", "llm", "tts", "tts_base", "llm_first_token", "first_audio", "total", "overlap"}
    assert timings.pop("overlap") == 0  # one stage after the other
    assert all(seconds > 0 for seconds in timings.values()) and timings["llm_first_token"] <= timings["llm"]
    stages = timings["asr"] + timings["llm"] + timings["tts"]
    assert stages <= timings["first_audio"] <= elapsed
    assert timings["total"] == pytest.approx(timings["first_audio"] + timings["tts_base"])


@pytest.mark.slow
def test_takes_every_kind_of_audio(pipe, spoken):
    samples, rate = spoken
    kinds = [QUESTION, (EXAMPLES / "pregunta.wav").read_bytes(), {"array": samples, "sampling_rate": rate}]
    kinds += [{"array": np.stack([samples] * 6), "sampling_rate": rate}, EXAMPLES / "pregunta.wav"]
    kinds += [{"raw": (samples * 32767).astype(np.int16), "sampling_rate": rate}]
    heard = [pipe(kind, **SHORT)["question"] for kind in kinds]
    assert set(heard) == {heard[0]}


@pytest.mark.slow
def test_takes_a_url(pipe):
    handler = partial(SimpleHTTPRequestHandler, directory=EXAMPLES)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = pipe(f"http://127.0.0.1:{server.server_port}/pregunta.wav", **SHORT)
        server.shutdown()
    assert result["question"] == pipe(QUESTION, **SHORT)["question"]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_many_questions_come_back_in_order(pipe, spoken, batch_size):
    samples, rate = spoken
    questions = [{"array": samples[i * rate // 10 :] * (1 - i / 10), "sampling_rate": rate} for i in range(4)]
    alone = [pipe(question, **SHORT) for question in questions]
    dataset = datasets.Dataset.from_dict({"audio": [{"array": q["array"], "sampling_rate": rate} for q in questions]})
    for many in (questions, (question for question in questions), dataset):
        together = pipe(many, batch_size=batch_size, **SHORT)
        assert isinstance(together, list) == isinstance(many, list)
        together = list(together)
        assert [result["question"] for result in together] == [result["question"] for result in alone]
        assert [result["answer"] for result in together] == [result["answer"] for result in alone]
        assert all(result["audio"].ndim == 1 for result in together)


@pytest.mark.slow
def test_a_dataset_of_files_needs_no_torchcodec(pipe):
    dataset = datasets.Dataset.from_dict({"audio": [QUESTION, QUESTION]}).cast_column("audio", datasets.Audio())
    assert len(list(pipe(dataset, **SHORT))) == 2


def test_no_questions_no_answers(pipe):
    assert pipe([]) == []


def test_the_language_is_detected(pipe):
    result = pipe(QUESTION, language=None, **SHORT)
    assert result["language"] in ("en", "es", "fr")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["es", "ES", "es-MX", "spanish", "Spanish"])
def test_languages_go_by_code_or_name(pipe, name):
    assert pipe(QUESTION, language=name, **SHORT)["language"] == ("es-MX" if name == "es-MX" else "es")


@pytest.mark.slow
def test_long_audio_among_short_is_heard_as_alone(pipe, spoken):
    samples, rate = spoken
    long = {"array": np.tile(samples, 40)[: 65 * rate], "sampling_rate": rate}
    together = pipe([long, QUESTION, long], batch_size=3, **SHORT)
    alone = [pipe(question, **SHORT) for question in (long, QUESTION)]
    assert [result["question"] for result in together] == [alone[i]["question"] for i in (0, 1, 0)]
    assert alone[0]["question"] != alone[1]["question"]


@pytest.mark.slow
def test_text2text_and_objects_are_parts_too(tiny_whisper, tiny_text2text, tiny_vits):
    pipe = pipeline("voice-qa", model=str(tiny_whisper), llm=str(tiny_text2text), tts=hfpipe.load_tts(tiny_vits))
    assert pipe(QUESTION, **SHORT)["answer"]

    def parrot(question, language, **options):
        return f"{language}: {question}, {options['history'][0]['content']}"

    class Tone:
        sampling_rate = 8_000

        def __call__(self, text, language, speaker_wav=None):
            return np.sin(np.arange(len(text) * 100, dtype=np.float32))

    pipe = hfpipe.load(tiny_whisper, llm=parrot, tts=Tone())
    result = pipe(QUESTION, history=[{"role": "user", "content": "antes"}])
    assert result["answer"] == f"es: {result['question']}, antes"
    assert len(result["audio"]) == 100 * len(result["answer"]) and result["sampling_rate"] == 8_000


@pytest.mark.slow
def test_system_prompt_and_options_reach_the_llm(pipe):
    assert len(pipe(QUESTION, max_new_tokens=2)["answer"]) < len(pipe(QUESTION, max_new_tokens=12)["answer"])
    torch.manual_seed(0)
    sampling = {"do_sample": True, "temperature": 9.0}
    assert len({pipe(QUESTION, generate_kwargs=sampling, **SHORT)["answer"] for _ in range(4)}) > 1


@pytest.mark.slow
def test_defaults_can_be_set_once(tiny_whisper, tiny_chat, tiny_vits):
    pipe = hfpipe.load(tiny_whisper, llm=tiny_chat, tts=tiny_vits, max_new_tokens=2, language="spanish")
    result = pipe(QUESTION)
    assert result["language"] == "es" and len(result["answer"]) <= 3


@pytest.mark.slow
def test_the_same_repo_is_a_plain_whisper(tiny_whisper):
    asr = pipeline("automatic-speech-recognition", model=str(tiny_whisper))
    samples = load_question(QUESTION)
    assert asr(samples, generate_kwargs={"task": "transcribe", "language": "es"})["text"]


@pytest.mark.slow
def test_parts_are_found_in_the_repo(whisper_folder, tiny_chat, tiny_vits):
    folder = whisper_folder(llm="llm", tts="tts")
    hfpipe.LLM.from_pretrained(tiny_chat).save_pretrained(f"{folder}/llm")
    hfpipe.load_tts(tiny_vits).save_pretrained(f"{folder}/tts")
    assert pipeline("voice-qa", model=folder)(QUESTION, **SHORT)["answer"]


@pytest.mark.slow
def test_a_part_keeps_its_own_generation_config(whisper_folder, tiny_chat, tiny_vits):
    """`from_pretrained(root, subfolder=...)` would read the root's, and the answer would never stop."""
    folder = whisper_folder(llm="llm", tts="tts")
    llm = hfpipe.LLM.from_pretrained(tiny_chat)
    llm.save_pretrained(f"{folder}/llm")
    loaded = pipeline("voice-qa", model=folder, tts=tiny_vits)
    assert loaded.llm.model.generation_config.eos_token_id == llm.model.generation_config.eos_token_id


@pytest.mark.slow
def test_saved_and_loaded_it_answers_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = hfpipe.load(tmp_path)
    results = []
    for each in (pipe, again):
        torch.manual_seed(0)
        results.append(each(QUESTION, **SHORT))
    assert results[0]["answer"] == results[1]["answer"]
    np.testing.assert_array_equal(results[0]["audio"], results[1]["audio"])
    again.sources["tts"] = Source("facebook/mms-tts-spa", "0")
    again.save_pretrained(tmp_path / "pointing")
    assert not (tmp_path / "pointing" / "tts").exists()
    assert AutoConfig.from_pretrained(tmp_path / "pointing").voice_qa == {
        "llm": "llm",
        "tts": str(again.sources["tts"]),
    }


def test_a_part_that_cannot_be_saved_leaves_nothing(tiny_whisper, tiny_vits, tmp_path):
    pipe = hfpipe.load(tiny_whisper, llm=lambda question, **options: question, tts=tiny_vits)
    with pytest.raises(ValueError, match="llm is a function"):
        pipe.save_pretrained(tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


# Bad input


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["llm", "tts"])
def test_a_repo_without_a_part_says_which_and_what_to_give(tiny_whisper, tiny_chat, tiny_vits, missing):
    parts = {"llm": tiny_chat, "tts": tiny_vits}
    parts.pop(missing)
    with pytest.raises(ValueError, match=f"no '{missing}' part.*Give {missing}=.*offline_repo"):
        hfpipe.load(tiny_whisper, **parts)


def test_a_repo_that_lacks_its_folder_is_refused(whisper_folder, tiny_chat):
    with pytest.raises(OSError, match="lacks its folder 'tts'"):
        hfpipe.load(whisper_folder(llm="llm", tts="tts"), llm=tiny_chat)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/etc/passwd", "../tts", "..", ".", "~/tts", "a/b/c", "file:///etc", "../../x/y"])
def test_a_strangers_repo_opens_no_path(whisper_folder, tiny_chat, path):
    with pytest.raises(ValueError, match="names .* as its tts"):
        hfpipe.load(whisper_folder(tts=path), llm=tiny_chat)


def test_what_is_no_whisper_is_refused(tiny_chat, tiny_vits):
    config = AutoConfig.from_pretrained(tiny_chat)
    model = torch.nn.Linear(1, 1)
    model.config = config
    with pytest.raises(ValueError, match="hears with Whisper.*'llama'"):
        VoiceQAPipeline(model, llm=tiny_chat, tts=tiny_vits)


@pytest.mark.parametrize("call", [
    partial(pipeline, "voice-qa"),
    hfpipe.load,
    partial(hfpipe.load, "openai/whisper-tiny"),
])  # fmt: skip
def test_an_unreachable_hub_says_what_to_do_at_once(call, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="model='openai/whisper.*can't be reached.*pip install.*offline_repo"):
        call()


def test_the_defaults_are_pinned_to_commits(tiny_whisper, tiny_chat, tiny_vits):
    for reference in ("@".join(DEFAULT_WHISPER), *DEFAULT_PARTS.values()):
        assert len(reference.split("@")[1]) == 40
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper)
    model.config.name_or_path = DEFAULT_WHISPER[0]
    with pytest.raises(OSError, match=f"llm='{DEFAULT_PARTS['llm'].split('@')[0]}'"):
        VoiceQAPipeline(model, tts=tiny_vits)


def test_a_language_that_the_voice_lacks_is_refused_before_any_work(pipe):
    with pytest.raises(ValueError, match="doesn't speak 'fr'; it speaks es"):
        pipe(QUESTION, language="fr")
    with pytest.raises(ValueError, match="language is 'xx'"):
        pipe(QUESTION, language="xx")


def test_an_english_whisper_hears_no_spanish(tiny_whisper, tiny_chat, tiny_vits):
    pipe = hfpipe.load(tiny_whisper, llm=tiny_chat, tts=tiny_vits)
    pipe.model.generation_config.is_multilingual = False
    with pytest.raises(ValueError, match="hears English alone"):
        pipe(QUESTION)


@pytest.mark.slow
def test_silence_among_questions_is_refused(pipe):
    with pytest.raises(ValueError, match="no speech"):
        pipe([QUESTION, np.zeros(32_000, np.float32)])


def test_a_bad_reference_is_refused_before_any_work(pipe, voice):
    with pytest.raises(FileNotFoundError, match="nowhere.wav"):
        pipe(QUESTION, speaker_wav="nowhere.wav")
    with pytest.raises(ValueError, match="compare=True"):
        pipe(QUESTION, compare=True)
    with pytest.raises(TypeError, match="'voice'.*valid are"):
        pipe(QUESTION, voice="x")
    with pytest.raises(ValueError, match="no speaker 'x'.*no named voices.*another tts"):
        pipe(QUESTION, speaker="x")
    with pytest.raises(ValueError, match="give one"):
        pipe(QUESTION, speaker="x", speaker_wav=voice)


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate"),
])  # fmt: skip
@pytest.mark.parametrize("stage, smaller", [("asr", "whisper-tiny"), ("llm", "0.5B"), ("tts", "mms-tts-spa")])
def test_out_of_memory_names_a_smaller_model(error, stage, smaller):
    with pytest.raises(MemoryError, match=f"'{stage}'.*{smaller}"), explain_out_of_memory(stage):
        raise error


def test_another_error_is_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("llm"):
        raise RuntimeError("shapes don't match")


def test_really_running_out_of_memory(tiny_whisper, tiny_chat, tiny_vits):
    """A tensor larger than any memory, through torch's own allocator."""

    def greedy(question, **options):
        return torch.empty(2**60)

    pipe = hfpipe.load(tiny_whisper, llm=greedy, tts=tiny_vits)
    with pytest.raises(MemoryError, match="'llm'.*smaller LLM"):
        pipe(QUESTION)


# Importing


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_hfpipe_imports_nothing_heavy():
    heavy = {"torch", "transformers", "TTS", "onnxruntime", "soundfile", "datasets", "librosa"}
    loaded = run_python("import sys, hfpipe; print(*{name.split('.')[0] for name in sys.modules})")
    assert not heavy & set(loaded.split())


@pytest.mark.slow
@pytest.mark.parametrize("first, second", [
    ("import hfpipe", "from transformers import pipeline"),
    ("from transformers import pipeline", "import hfpipe"),
    ("from hfpipe.pipeline.voice_qa import VoiceQAPipeline", "from transformers import pipeline"),
])  # fmt: skip
def test_the_task_is_registered_in_either_order(first, second):
    code = f"{first}\n{second}\nfrom transformers.pipelines import PIPELINE_REGISTRY as registry\n"
    assert run_python(code + "print(registry.check_task('voice-qa')[0])") == "voice-qa"


@pytest.mark.slow
def test_parts_that_are_not_used_are_not_imported(tiny_whisper, tiny_chat, tiny_vits):
    code = (
        "import sys, hfpipe\n"
        f"pipe = hfpipe.load({str(tiny_whisper)!r}, llm={str(tiny_chat)!r}, tts={str(tiny_vits)!r})\n"
        f"pipe({QUESTION!r}, max_new_tokens=2)\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    assert not {"TTS", "onnxruntime", "resemblyzer"} & set(run_python(code).split())
