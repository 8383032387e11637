"""Save, push and load a voice-qa repo: on disk, and on a Hub that listens on loopback."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, save_tiny_text2text, save_tiny_whisper, save_tiny_xtts
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from loopback_hub import LoopbackHub, child_environment, point_client_at
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, WhisperForConditionalGeneration, pipeline
from transformers.dynamic_module_utils import get_imports

import hfpipe
from hfpipe.pipeline.hub_card import CPML, License, strictest
from hfpipe.pipeline.hub_code import REQUIREMENTS
from hfpipe.pipeline.hub_repo import staged
from hfpipe.pipeline.tts_xtts_license import LICENSE_VARIABLE

QUESTION = str(EXAMPLES / "pregunta.wav")
SHORT = {"max_new_tokens": 6}
ANA = "hf_ana"
CARD = """---
license: mit
base_model: openai/whisper-tiny
model-index:
- name: mine
  results:
  - task: {type: automatic-speech-recognition}
    dataset: {name: es-MX, type: es_mx, split: test}
    metrics: [{type: wer, value: 8.7, name: WER}]
---
# Mine
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path / "cache"))
    with LoopbackHub(tokens={ANA: "ana", "hf_bob": "bob"}) as hub, point_client_at(hub.url, tmp_path / "home"):
        yield hub


@pytest.fixture
def make(tmp_path, tiny_whisper, tiny_chat, tiny_vits):
    """Makes the tiny pipeline, each time anew, with other parts or options where they are given."""

    def make(**given):
        given = {"model": tiny_whisper, "llm": tiny_chat, "tts": tiny_vits, "device": "cpu", **given}
        return hfpipe.load(**given)

    return make


def ask(pipe, **options):
    torch.manual_seed(0)
    return pipe(QUESTION, **SHORT, **options)


def assert_same(result, expected):
    assert (result["question"], result["answer"]) == (expected["question"], expected["answer"])
    np.testing.assert_array_equal(result["audio"], expected["audio"])


def read_files(folder) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_json(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# In a process that has no hfpipe


def run_without_hfpipe(code: str, environment: dict[str, str], folder: Path) -> str:
    """Runs code in a fresh interpreter that can't import hfpipe, and gives what it prints."""
    begin = (
        "import sys\n"
        "sys.modules['hfpipe'] = None\n"
        "try:\n    import hfpipe\n    raise SystemExit('hfpipe can be imported')\nexcept ImportError:\n    pass\n"
        "import json, numpy, torch\n"
        "from transformers import pipeline\n"
        f"def ask(pipe):\n    torch.manual_seed(0)\n    return pipe({QUESTION!r}, max_new_tokens=6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_pushed_it_loads_by_id_where_hfpipe_is_not_installed(hub, make, tmp_path, tiny_whisper):
    """Two pushes and a third generation: the same answer and audio, bit for bit, each revision its own."""
    save_tiny_text2text(tmp_path / "t5")
    first, second = make(), make(llm=tmp_path / "t5")
    old = first.push_to_hub("ana/qa", token=ANA, private=True)
    second.push_to_hub("ana/qa", token=ANA)
    code = f"""
for name, revision in (("new", None), ("old", {old.oid!r})):
    pipe = pipeline("voice-qa", model="ana/qa", revision=revision, token={ANA!r}, trust_remote_code=True, device="cpu")
    assert type(pipe).__module__.startswith("transformers_modules.")
    result = ask(pipe)
    numpy.save(name + ".npy", result["audio"])
    print(json.dumps([result["question"], result["answer"]]))
pipe.save_pretrained("third")
asr = pipeline("automatic-speech-recognition", model="ana/qa", token={ANA!r})
import soundfile
samples, rate = soundfile.read({QUESTION!r}, dtype="float32")
print(asr({{"array": samples, "sampling_rate": rate}}, generate_kwargs={{"task": "transcribe"}})["text"])
"""
    printed = run_without_hfpipe(code, child_environment(hub.url, tmp_path / "their"), tmp_path).splitlines()
    for name, pipe, texts in (("new", second, printed[0]), ("old", first, printed[1])):
        expected = ask(pipe)
        assert json.loads(texts) == [expected["question"], expected["answer"]]
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected["audio"])
    assert printed[2]

    first.save_pretrained(tmp_path / "first")
    hfpipe.load(tmp_path / "third", device="cpu").save_pretrained(tmp_path / "fourth")
    assert read_files(tmp_path / "first") == read_files(tmp_path / "third") == read_files(tmp_path / "fourth")
    pushed = dict(hub.repos["ana/qa"].commits[old.oid].files)
    assert {name: data for name, data in pushed.items() if name not in (".gitattributes", "README.md")} == read_files(
        tmp_path / "first"
    )


@pytest.mark.slow
def test_the_code_that_travels_needs_no_more_than_it_says(make, tmp_path):
    """transformers refuses to load a repo whose files import what isn't installed."""
    make().save_pretrained(tmp_path / "repo")
    names = {"PIL": "pillow", "huggingface_hub": "transformers", "yaml": "transformers", "numpy": "transformers"}
    names |= {"safetensors": "transformers", "jinja2": "torch", "silero_vad": "silero-vad"}
    names |= {"markdown_it": "markdown-it-py", "llvmlite": "numba"}
    for file in (tmp_path / "repo").glob("*.py"):
        code = file.read_text()
        assert "hfpipe import" not in code and "import hfpipe" not in code
        needed = {names.get(name, name) for name in get_imports(file)} - sys.stdlib_module_names
        assert needed <= set(REQUIREMENTS), file.name
    pins = (tmp_path / "repo" / "requirements.txt").read_text().splitlines()
    assert {pin.split("==")[0] for pin in pins} == set(REQUIREMENTS) and all("==" in pin for pin in pins)


# With hfpipe


@pytest.mark.slow
def test_hfpipe_load_runs_none_of_the_repos_code(hub, make, tmp_path):
    make().push_to_hub("ana/qa", token=ANA)
    trace = tmp_path / "it-ran"
    code = f"open({str(trace)!r}, 'w')\n".encode()
    repo = hub.repos["ana/qa"]
    repo.commit({name: code for name in repo.find("main").files if name.endswith(".py")})
    assert_same(ask(hfpipe.load("ana/qa", device="cpu")), ask(make()))
    assert not trace.exists()
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("voice-qa", model="ana/qa")
    assert not trace.exists()


@pytest.mark.slow
def test_a_private_repo_wants_its_token(hub, make, tmp_path):
    make().push_to_hub("ana/qa", token=ANA, private=True)
    for token in (None, "hf_bob"):
        with pytest.raises(OSError, match="ana/qa.*token|token.*ana/qa|private"):
            hfpipe.load("ana/qa", token=token)
    assert_same(ask(hfpipe.load("ana/qa", token=ANA, device="cpu")), ask(make()))


@pytest.mark.slow
def test_nobody_pushes_without_the_right_to(hub, make):
    pipe = make()
    for token in (None, "hf_bob", "hf_wrong"):
        with pytest.raises((HfHubHTTPError, OSError), match="40[13]|Forbidden|Invalid|token"):
            pipe.push_to_hub("ana/qa", token=token)
    assert "ana/qa" not in hub.repos


def test_the_token_stays_out_of_what_is_written(hub, make, tmp_path):
    make(token=ANA).save_pretrained(tmp_path / "repo")
    assert not any(ANA.encode() in data for data in read_files(tmp_path / "repo").values())


@pytest.mark.slow
def test_parts_elsewhere_stay_references_at_their_commit(hub, make, tmp_path, tiny_chat, tiny_vits):
    hub.add_repo("ana/llm", files_of(tiny_chat), private=True)
    hub.repos["ana/llm"].commit({"README.md": b"---\nlicense: llama3.2\nbase_model: meta/llama\n---\n# Mine\n"})
    commit = hub.repos["ana/llm"].find("main").id
    hub.add_repo("org/tts", files_of(tiny_vits))
    hub.repos["org/tts"].refs["refs/heads/v1"] = hub.repos["org/tts"].find("main").id
    pipe = make(llm="ana/llm", tts="org/tts@v1", token=ANA)
    expected = ask(pipe)
    pipe.save_pretrained(tmp_path / "repo")
    named = json.loads((tmp_path / "repo" / "config.json").read_text())["voice_qa"]
    assert named == {"llm": f"ana/llm@{commit}", "tts": f"org/tts@{hub.repos['org/tts'].find('v1').id}"}
    assert not (tmp_path / "repo" / "llm").exists() and not (tmp_path / "repo" / "tts").exists()

    hub.repos["ana/llm"].commit({"config.json": b"{}"})  # the reference doesn't follow
    assert_same(ask(hfpipe.load(tmp_path / "repo", token=ANA, device="cpu")), expected)
    with pytest.raises(OSError, match="llm='ana/llm'"):
        hfpipe.load(tmp_path / "repo", token="hf_bob")

    pipe.save_pretrained(tmp_path / "copy", copy_parts=True)
    card = ModelCard.load(tmp_path / "copy" / "llm" / "README.md").data
    assert (card.license, card.base_model, card.base_model_revision) == ("llama3.2", "ana/llm", commit)
    hub.repos.clear()
    assert_same(ask(hfpipe.load(tmp_path / "copy", device="cpu")), expected)


@pytest.mark.slow
def test_what_was_pushed_before_is_replaced_and_the_rest_is_kept(hub, make, tmp_path, tiny_chat):
    make().push_to_hub("ana/qa", token=ANA)
    repo = hub.repos["ana/qa"]
    edited = repo.find("main").files["README.md"].decode() + "\n## By hand\n\nGracias.\n"
    repo.commit({"README.md": edited.encode(), "llm/stale.bin": b"1", "notes.txt": b"mine"})
    hub.add_repo("org/llm", files_of(tiny_chat))
    make(llm="org/llm").push_to_hub("ana/qa", token=ANA)
    files = repo.find("main").files
    assert not [name for name in files if name.startswith("llm/")]
    assert files["notes.txt"] == b"mine"
    text = files["README.md"].decode()
    assert "org/llm" in text and text.count("## Parts") == 1 and text.rstrip().endswith("Gracias.")


@pytest.mark.slow
def test_a_branch_and_a_pull_request(hub, make):
    make().push_to_hub("ana/qa", token=ANA, revision="essay", commit_message="Try")
    repo = hub.repos["ana/qa"]
    assert "voice_qa.py" in repo.find("essay").files and "voice_qa.py" not in repo.find("main").files
    assert repo.find("essay").title == "Try"
    assert make().push_to_hub("ana/qa", token=ANA, create_pr=True).pr_revision == "refs/pr/1"
    assert hfpipe.load("ana/qa", revision="essay", device="cpu")(QUESTION, **SHORT)["answer"]


@pytest.mark.slow
def test_the_card_says_what_the_repo_holds(hub, make, tmp_path, tiny_chat):
    whisper = save_tiny_whisper(tmp_path / "whisper")
    (whisper / "README.md").write_text(CARD)
    hub.add_repo("org/llm", {**files_of(tiny_chat), "README.md": b"---\nlicense: gemma\n---\n"})
    pipe = make(model=whisper, llm="org/llm")
    pipe.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="ana/qa", token=ANA, tags=["thesis"])
    again = hfpipe.load("ana/qa", device="cpu")
    again.push_to_hub("ana/again", token=ANA)  # what is known of the Whisper travels on
    for name in ("ana/qa", "ana/again"):
        text = hub.repos[name].find("main").files["README.md"].decode()
        card = ModelCard(text)
        card.validate()
        data = card.data
        assert (data.pipeline_tag, data.library_name, data.language) == ("audio-to-audio", "transformers", ["es"])
        assert data.base_model == ["openai/whisper-tiny", "org/llm"] and data.license == "unknown"
        assert {"voice-qa", "custom_code"} <= set(data.tags) and ("thesis" in data.tags) == (name == "ana/qa")
        assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [("wer", 8.7)]
        commit = hub.repos["org/llm"].find("main").id
        assert f'model="{name}", trust_remote_code=True' in text and f"`{commit}`" in text and "| 8.7 |" in text
        assert "with the consent of its speaker" in text and str(tmp_path) not in text
        compile(text.split("```python\n")[1].split("```")[0], "card", "exec")


def test_the_strictest_licence_is_the_wholes():
    mit, apache, gemma, nc = map(License, ("mit", "apache-2.0", "gemma", "cc-by-nc-4.0"))
    assert strictest([mit, mit]) == mit and strictest([mit, apache]) == apache
    assert strictest([apache, gemma]) == gemma and strictest([gemma, License()]) == License()
    assert strictest([License(), nc, mit]) == nc and strictest([CPML, gemma]) == CPML
    assert strictest([gemma, License("llama3.2")]) == License("other", "gemma and llama3.2")


@pytest.mark.slow
def test_a_licence_that_forbids_copies_is_obeyed(hub, make, tmp_path, monkeypatch):
    monkeypatch.setenv(LICENSE_VARIABLE, "1")
    xtts = save_tiny_xtts(tmp_path / "xtts")
    hub.add_repo("coqui/XTTS-v2", files_of(xtts))
    hub.repos["coqui/XTTS-v2"].refs["refs/heads/tiny"] = hub.repos["coqui/XTTS-v2"].find("main").id
    pipe = make(tts="coqui/XTTS-v2@tiny")
    with pytest.raises(ValueError, match="never copied.*Coqui Public Model License.*without copy_parts"):
        pipe.save_pretrained(tmp_path / "repo", copy_parts=True)
    (xtts / "LICENSE.txt").write_text("Coqui Public Model License 1.0.0\n")
    with pytest.raises(ValueError, match="never copied"):
        make(tts=xtts).save_pretrained(tmp_path / "repo")
    assert not (tmp_path / "repo").exists()
    pipe.push_to_hub("ana/qa", token=ANA)
    data = ModelCard(hub.repos["ana/qa"].find("main").files["README.md"].decode()).data
    assert (data.license, data.license_name) == ("other", "coqui-public-model-license")


@pytest.mark.slow
def test_saved_voices_travel_with_a_voice_part_that_lies_elsewhere(hub, make, tmp_path, monkeypatch, voice):
    monkeypatch.setenv(LICENSE_VARIABLE, "1")
    hub.add_repo("org/xtts", files_of(save_tiny_xtts(tmp_path / "xtts")))
    options = {"tts_kwargs": {"max_new_tokens": 8}}
    pipe = make(tts="org/xtts")
    pipe.tts.save_voice("Eva", voice, consent_by="Eva Ruiz")
    expected = ask(pipe, speaker="Eva", **options)
    assert expected["cloned"] and not ask(pipe, **options)["cloned"]
    assert_same(expected, ask(pipe, speaker_wav=voice, **options))
    pipe.push_to_hub("ana/qa", token=ANA)
    held = [name for name in hub.repos["ana/qa"].find("main").files if name.startswith("tts/")]
    assert held == ["tts/voice_Eva.safetensors"]
    pipe.save_pretrained(tmp_path / "repo")
    for repo in ("ana/qa", tmp_path / "repo"):
        again = hfpipe.load(repo, device="cpu")
        assert again.tts.saved_voices["Eva"].consent_by == "Eva Ruiz"
        assert_same(ask(again, speaker="Eva", **options), expected)
        assert ask(again, speaker="Eva", compare=True, **options)["audio_base"].size
    with pytest.raises(ValueError, match="no speaker 'Otra'; valid is 'Ana', 'Luis', 'Eva'.*save_voice"):
        pipe(QUESTION, speaker="Otra")


# Saving


def test_saving_keeps_what_else_is_in_the_folder(make, tmp_path):
    """A folder of training, or a clone of a repo, holds more than what is saved."""
    kept = {".git/HEAD", "checkpoint-10/model.safetensors", "README.md"}
    replaced = {"llm/old.bin", "model-00001-of-00002.safetensors"}
    for name in kept | replaced:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    make().save_pretrained(tmp_path)
    files = read_files(tmp_path)
    assert kept <= files.keys() and not replaced & files.keys()
    again = hfpipe.load(tmp_path, device="cpu")
    again.save_pretrained(tmp_path)  # into the folder that it was loaded from
    assert read_files(tmp_path) == files


def test_a_save_that_fails_leaves_the_old_repo_or_nothing(make, tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path / "repo")
    before = read_files(tmp_path / "repo")

    def fail(folder):
        Path(folder).mkdir()
        Path(folder, "half").write_text("written")
        raise KeyboardInterrupt

    pipe.tts.save_pretrained = fail
    for folder in ("repo", "new"):
        with pytest.raises(KeyboardInterrupt):
            pipe.save_pretrained(tmp_path / folder)
    assert read_files(tmp_path / "repo") == before
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        pipe.save_pretrained(tmp_path / "file")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_while_saving_it_leaves_the_old_repo_or_none(tmp_path):
    """The child is killed at a random moment; whatever has a config.json is whole."""
    target, chance = tmp_path / "repo", random.Random(0)

    def save(generation: int) -> None:
        with staged(target, replaced=("llm",)) as folder:
            (folder / "llm").mkdir()
            for name in ("model.safetensors", "llm/model.safetensors", "config.json"):
                (folder / name).write_text(f"{generation}" * 100_000)

    save(0)
    seen = set()
    for _ in range(60):
        child = os.fork()
        if child == 0:
            generation = 1
            while True:
                save(generation)
                generation = generation % 9 + 1
        time.sleep(chance.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (target / "config.json").exists():
            names = ("config.json", "model.safetensors", "llm/model.safetensors")
            assert len({(target / name).read_text() for name in names}) == 1
        seen.add((target / "config.json").exists())
    save(0)
    assert any(seen) and sorted(path.name for path in target.iterdir()) == [
        "config.json",
        "llm",
        "model.safetensors",
    ]


def test_weights_are_saved_in_the_dtype_that_they_came_in(make, tmp_path, tiny_chat):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat, dtype=torch.bfloat16)
    shutil.copytree(tiny_chat, tmp_path / "llm")
    model.save_pretrained(tmp_path / "llm")
    pipe = make(llm=tmp_path / "llm")
    pipe.llm.model.float()  # as where a CPU can't multiply bfloat16
    pipe.save_pretrained(tmp_path / "repo")
    saved = load_file(tmp_path / "repo" / "llm" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "llm" / "model.safetensors").items():
        assert saved[name].dtype == torch.bfloat16 and torch.equal(saved[name], tensor)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "repo" / "llm").dtype == torch.bfloat16


# Devices


@pytest.mark.slow
def test_each_part_can_sit_on_its_own_device(make):
    pipe = make(llm_device="meta", tts_device="meta")
    assert pipe.model.device.type == "cpu"
    assert pipe.llm.model.device.type == "meta" and pipe.tts.pipe.model.device.type == "meta"


@pytest.mark.slow
def test_a_device_map_reaches_the_llm(make):
    pipe = make(device=None, device_map="auto")
    assert ask(pipe)["answer"] == ask(make())["answer"]


def test_what_quantises_the_whisper_quantises_the_llm(make, tiny_whisper, monkeypatch):
    """No quantiser is installed here: what is looked at is what `from_pretrained` is given."""
    given = {}

    def record(cls, name, **kwargs):
        given.update(kwargs)
        raise OSError("enough")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", classmethod(record))
    monkeypatch.setattr(
        "transformers.pipelines.load_model",
        lambda model, **kwargs: WhisperForConditionalGeneration.from_pretrained(model),
    )
    quantisation = object()
    with pytest.raises(OSError, match="enough"):
        make(model_kwargs={"quantization_config": quantisation}, llm_model_kwargs={"attn_implementation": "eager"})
    assert given["quantization_config"] is quantisation and given["attn_implementation"] == "eager"
    assert given["device_map"] == {"": torch.device("cpu")} and given["trust_remote_code"] is False


# Damage


@pytest.fixture
def repo(make, tmp_path):
    make().save_pretrained(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.mark.parametrize("file", ["model.safetensors", "llm/model.safetensors", "tts/model.safetensors"])
def test_truncated_weights_are_named(repo, file):
    os.truncate(repo / file, (repo / file).stat().st_size // 2)
    named = Path(file).parent.name or "repo"
    with pytest.raises((OSError, ValueError), match=f"{named}.*(damaged|can't be loaded)|can't load .*{named}"):
        hfpipe.load(repo)


@pytest.mark.parametrize("file", ["model.safetensors", "llm/model.safetensors", "tts/model.safetensors"])
def test_weights_that_lack_some_are_refused(repo, file):
    """transformers would fill them with random numbers and only warn."""
    weights = load_file(repo / file)
    lost = sorted(weights)[3]
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, repo / file, {"format": "pt"})
    with pytest.raises((OSError, ValueError), match=lost):
        hfpipe.load(repo)


@pytest.mark.parametrize("file", ["config.json", "llm/config.json", "tts/config.json", "llm/tokenizer.json"])
def test_a_spoiled_file_is_named(repo, file):
    (repo / file).write_text("{spoiled")
    with pytest.raises((OSError, ValueError), match="json|JSON|llm="):
        hfpipe.load(repo)


@pytest.mark.parametrize("sizes", [{"hidden_size": 32, "head_dim": 8}, {"vocab_size": 99}])
def test_weights_of_another_model_are_refused(repo, sizes):
    edit_json(repo / "llm" / "config.json", **sizes)
    with pytest.raises(OSError, match="incomplete|can't be loaded"):
        hfpipe.load(repo)


@pytest.mark.parametrize("named", ["llm", ["llm", "tts"], {"llm": 7, "tts": "tts"}, {"llm": None}])
def test_a_config_that_names_nonsense_is_refused(repo, named):
    edit_json(repo / "config.json", voice_qa=named)
    with pytest.raises(ValueError, match="voice_qa|llm"):
        hfpipe.load(repo)


def test_a_reference_never_opens_a_folder_that_is_here(repo, tiny_chat, tmp_path, monkeypatch):
    edit_json(repo / "config.json", voice_qa={"llm": "org/llm", "tts": "tts"})
    shutil.copytree(tiny_chat, tmp_path / "org" / "llm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a folder of that name is here"):
        hfpipe.load(repo)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("part", ["llm", "tts"])
def test_a_pickle_in_a_part_is_never_run(repo, part):
    trace = repo / "it-ran"
    (repo / part / "model.safetensors").unlink()
    torch.save({"model": Malicious(trace)}, repo / part / "pytorch_model.bin")
    with pytest.raises((OSError, ValueError)):
        hfpipe.load(repo)
    assert not trace.exists()


def test_code_in_a_part_is_never_run(repo):
    trace = repo / "it-ran"
    (repo / "llm" / "model.py").write_text(f"open({str(trace)!r}, 'w')\n")
    edit_json(repo / "llm" / "config.json", auto_map={"AutoModelForCausalLM": "model.Model"}, model_type="strange")
    with pytest.raises(OSError, match="llm="):
        hfpipe.load(repo)
    assert not trace.exists()


@pytest.mark.slow
def test_a_repo_whose_code_is_spoiled_says_so(hub, make, tmp_path):
    make().push_to_hub("ana/qa", token=ANA)
    repo = hub.repos["ana/qa"]
    for changes, expected in (
        ({"asr_whisper.py": None}, "asr_whisper.py"),
        ({"asr_whisper.py": b"def"}, "asr_whisper.py|invalid syntax"),
    ):
        repo.commit(changes)
        with pytest.raises((OSError, SyntaxError), match=expected):
            pipeline("voice-qa", model="ana/qa", trust_remote_code=True, device="cpu")


def test_a_download_that_is_swapped_is_noticed(hub, make):
    make().push_to_hub("ana/qa", token=ANA)
    hub.misbehave("ana/qa/llm/model.safetensors", b"something else")
    with pytest.raises(OSError, match="Consistency check failed|llm"):
        hfpipe.load("ana/qa")
