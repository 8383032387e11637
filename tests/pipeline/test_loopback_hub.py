"""The loopback Hub, seen through the real client: what's pushed comes back, and what the Hub refuses is refused."""

import hashlib
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from conftest import save_tiny_chat
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback_hub import GITATTRIBUTES, LFS_SIZE, LoopbackHub, child_environment, point_client_at
from transformers import AutoConfig, AutoModel, pipeline
from transformers.utils import cached_file

ANA, BOB = "hf_ana", "hf_bob"
WEIGHTS = bytes(range(256)) * 8
CARD = "---\nlicense: mit\npipeline_tag: text-generation\ntags: [voice]\n---\n# A voice\n"
REMOTE_CONFIG = """
from transformers import PretrainedConfig
from .sizes import SIZE

class SpokenConfig(PretrainedConfig):
    model_type = "spoken"
    size = SIZE
"""
CHILD = """
import sys
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoConfig, pipeline
print(type(AutoConfig.from_pretrained("ana/spoken", trust_remote_code=True)).__name__)
print(pipeline(model="ana/chat", revision="v1")("Hi", max_new_tokens=4, return_full_text=False)[0]["generated_text"])
print(HF_HUB_CACHE)
"""


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub(tokens={ANA: "ana", BOB: "bob"}, orgs={"lab": ["ana"]}) as hub:
        with point_client_at(hub.url, tmp_path / "home"):
            yield hub


@pytest.fixture
def ana(hub):
    return HfApi(token=ANA)


@pytest.fixture
def impatient(monkeypatch):
    """The client retries what fails for up to 23 seconds: here it doesn't sleep in between."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def chat_files(tmp_path_factory):
    folder = save_tiny_chat(tmp_path_factory.mktemp("hub") / "chat")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"README.md": CARD.encode()}


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def get(hub, path, **headers):
    return urllib.request.urlopen(urllib.request.Request(hub.url + path, headers=headers))


def test_pushes_a_folder_and_gives_it_back(hub, ana, tmp_path):
    files = {"README.md": CARD.encode(), "config.json": b"{}", "voices/ana.bin": WEIGHTS, "model.safetensors": WEIGHTS}
    assert ana.whoami()["name"] == "ana"
    assert ana.create_repo("voice", private=True).repo_id == "ana/voice"
    with pytest.raises(HfHubHTTPError, match="409"):
        ana.create_repo("ana/voice")
    ana.create_repo("ana/voice", exist_ok=True)
    commit = ana.upload_folder(repo_id="ana/voice", folder_path=write(tmp_path / "voice", files))

    repo = hub.repos["ana/voice"]
    assert repo.private and list(repo.commits)[-1] == commit.oid
    assert repo.commits[commit.oid].files == {".gitattributes": GITATTRIBUTES, **files}
    assert repo.lfs_objects == {hashlib.sha256(WEIGHTS).hexdigest(): WEIGHTS}, "both files are one object"
    assert not any("xet" in request.path for request in hub.requests)
    puts = [request for request in hub.requests if request.method == "PUT"]
    assert puts and not any(request.token for request in puts), "the token isn't for the storage"

    folder = snapshot_download("ana/voice", token=ANA, allow_patterns=["*.json", "voices/*"])
    assert folder.startswith(str(tmp_path / "home")) and folder.endswith(commit.oid)
    assert sorted(ana.list_repo_files("ana/voice")) == sorted([".gitattributes", *files])
    got = {path: Path(folder, path).read_bytes() for path in files if Path(folder, path).exists()}
    assert got == {"config.json": b"{}", "voices/ana.bin": WEIGHTS}
    again = ana.upload_folder(repo_id="ana/voice", folder_path=tmp_path / "voice")
    assert again.oid == commit.oid, "nothing changed"


def test_describes_what_a_repo_holds(hub, ana):
    commit = hub.add_repo("ana/voice", {"README.md": CARD.encode(), "config.json": b"{}", "voices/ana.bin": WEIGHTS})
    info = ana.model_info("ana/voice", files_metadata=True)
    assert (info.sha, info.private, info.gated, info.author) == (commit, False, False, "ana")
    assert (info.pipeline_tag, info.library_name, info.card_data.license) == ("text-generation", "transformers", "mit")
    assert "voice" in info.tags
    lfs = {file.rfilename: file.lfs and file.lfs.sha256 for file in info.siblings}
    assert lfs["voices/ana.bin"] == hashlib.sha256(WEIGHTS).hexdigest() and lfs["config.json"] is None
    assert ana.repo_info("ana/voice").sha == commit == ana.resolve_revision("ana/voice").resolved
    assert ana.file_exists("ana/voice", "config.json") and not ana.file_exists("ana/voice", "model.safetensors")

    assert {entry.path for entry in ana.list_repo_tree("ana/voice")} == {
        ".gitattributes",
        "README.md",
        "config.json",
        "voices",
    }
    assert [entry.path for entry in ana.list_repo_tree("ana/voice", "voices")] == ["voices/ana.bin"]
    with pytest.raises(EntryNotFoundError):
        list(ana.list_repo_tree("ana/voice", "nothing"))


def test_checks_cards(hub, ana):
    ModelCard(CARD).validate()
    with pytest.raises(ValueError, match='^"datasets" must be an array'):
        ModelCard("---\ndatasets: voices\n---\n").validate()
    ana.create_repo("ana/voice")
    with pytest.raises(ValueError, match="YAML"):
        ana.upload_file(repo_id="ana/voice", path_in_repo="README.md", path_or_fileobj=b"---\ntags: [\n---\n")
    with pytest.warns(UserWarning, match="empty or missing"):
        ana.upload_file(repo_id="ana/voice", path_in_repo="README.md", path_or_fileobj=b"# A voice")
    ana.upload_file(repo_id="ana/voice", path_in_repo="README.md", path_or_fileobj=CARD.encode())
    assert ModelCard.load("ana/voice").data.license == "mit"


def test_keeps_branches_tags_and_old_revisions(hub, ana, tmp_path):
    first = hub.add_repo("ana/voice", {"config.json": b"1", "old.bin": WEIGHTS, "older/a.bin": WEIGHTS})
    ana.create_tag("ana/voice", tag="v1")
    ana.create_branch("ana/voice", branch="try/it", revision="v1")
    for again in (ana.create_tag, ana.create_branch):
        name = {"tag": "v1"} if again == ana.create_tag else {"branch": "try/it"}
        with pytest.raises(HfHubHTTPError, match="409"):
            again("ana/voice", **name)
        again("ana/voice", **name, exist_ok=True)
    folder = write(tmp_path / "voice", {"config.json": b"2", "model.safetensors": WEIGHTS})
    upload = {"repo_id": "ana/voice", "folder_path": folder, "delete_patterns": "*.bin", "revision": "try/it"}
    second = ana.upload_folder(**upload, parent_commit=first)

    assert ana.list_repo_files("ana/voice", revision="try/it") == [
        ".gitattributes",
        "config.json",
        "model.safetensors",
    ]
    assert set(hub.repos["ana/voice"].commits[first].files) >= {"old.bin", "older/a.bin"}, "commits don't change"
    for revision, expected in {"main": "1", "v1": "1", first: "1", "try/it": "2", second.oid: "2"}.items():
        with open(hf_hub_download("ana/voice", "config.json", revision=revision)) as file:
            assert file.read() == expected, revision
    refs = ana.list_repo_refs("ana/voice")
    assert {branch.name: branch.target_commit for branch in refs.branches} == {"main": first, "try/it": second.oid}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]

    (folder / "config.json").write_bytes(b"3")
    with pytest.raises(HfHubHTTPError, match="412"):
        ana.upload_folder(**upload, parent_commit=first)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("ana/voice", "config.json", revision="v2")
    with pytest.raises(HfHubHTTPError, match="v1 isn't a branch"):
        ana.upload_folder(repo_id="ana/voice", folder_path=folder, revision="v1")


def test_commits_operations(hub, ana):
    hub.add_repo("ana/voice", {"a.json": b"a", "model.bin": WEIGHTS, "old/b.json": b"b", "old/c.json": b"c"})
    long = bytes(LFS_SIZE + 1)
    operations = [
        CommitOperationCopy("a.json", "copies/a.json"),
        CommitOperationCopy("model.bin", "copies/model.bin"),
        CommitOperationDelete("old/"),
        CommitOperationAdd("empty.bin", b""),
        CommitOperationAdd("long.wav", long),
        CommitOperationDelete("a.json"),
    ]
    commit = ana.create_commit("ana/voice", operations, commit_message="Tidy up", commit_description="At last")
    made = hub.repos["ana/voice"].commits[commit.oid]
    assert (made.title, made.description, made.author) == ("Tidy up", "At last", "ana")
    files = {
        "copies/a.json": b"a",
        "copies/model.bin": WEIGHTS,
        "empty.bin": b"",
        "long.wav": long,
        "model.bin": WEIGHTS,
    }
    assert made.files == {".gitattributes": GITATTRIBUTES, **files}
    assert set(hub.repos["ana/voice"].lfs_objects.values()) == {WEIGHTS, long}
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        ana.delete_file("nothing.json", "ana/voice")


def test_opens_pull_requests_for_anybody(hub, ana):
    commit = hub.add_repo("ana/voice", {"config.json": b"1"})
    bob = HfApi(token=BOB)
    pull = bob.upload_file(repo_id="ana/voice", path_in_repo="model.bin", path_or_fileobj=WEIGHTS, create_pr=True)
    pull = bob.create_commit(
        "ana/voice", [CommitOperationAdd("model.bin", WEIGHTS)], commit_message="Weights", create_pr=True
    )
    assert (pull.pr_num, pull.pr_revision) == (2, "refs/pr/2")
    assert ana.repo_info("ana/voice").sha == commit, "main is as it was"
    with open(hf_hub_download("ana/voice", "model.bin", revision="refs/pr/2"), "rb") as file:
        assert file.read() == WEIGHTS
    pulls = ana.list_repo_refs("ana/voice", include_pull_requests=True).pull_requests
    assert [pull.ref for pull in pulls] == ["refs/pr/1", "refs/pr/2"]


def test_hides_private_repos(hub):
    hub.add_repo("ana/secret", {"config.json": b"{}"}, private=True)
    hub.add_repo("lab/shared", {"config.json": b"{}"}, private=True)
    hub.add_repo("bob/open", {"config.json": b"{}"})
    for token in (None, BOB):
        with pytest.raises(RepositoryNotFoundError):
            HfApi().model_info("ana/secret", token=token)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("ana/secret", "config.json", token=token)
        with pytest.raises(RepositoryNotFoundError):
            snapshot_download("ana/secret", token=token)
        with pytest.raises(RepositoryNotFoundError):
            HfApi().model_info("ana/missing", token=token)
    for repo in ("ana/secret", "bob/open"):
        with pytest.raises(HfHubHTTPError, match="401.*\n*.*Invalid credentials") as error:
            hf_hub_download(repo, "config.json", token="hf_wrong")
        assert not isinstance(error.value, RepositoryNotFoundError)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi().whoami("hf_wrong")
    for repo in ("ana/secret", "lab/shared"):
        assert hf_hub_download(repo, "config.json", token=ANA)
    asked = [request for request in hub.requests if request.path.endswith("resolve/main/config.json")]
    assert (asked[0].method, asked[0].token) == ("HEAD", False) and asked[-1].token


def test_refuses_pushes_from_others(hub):
    commit = hub.add_repo("ana/voice", {"config.json": b"{}"})
    file = {"repo_id": "ana/voice", "path_in_repo": "config.json", "path_or_fileobj": b"[]"}
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi().create_repo("ana/new")
    with pytest.raises(HfHubHTTPError, match="403.*\n*.*rights to create"):
        HfApi(token=BOB).create_repo("ana/new")
    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi().upload_file(**file)
    with pytest.raises(HfHubHTTPError, match="403.*\n*.*rights to push"):
        HfApi(token=BOB).upload_file(**file)
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token=BOB).create_tag("ana/voice", tag="mine")
    assert list(hub.repos) == ["ana/voice"] and hub.repos["ana/voice"].refs == {"refs/heads/main": commit}
    assert HfApi(token=ANA).create_repo("lab/new").repo_id == "lab/new"


def test_guards_gated_repos(hub):
    hub.add_repo("lab/gated", {"config.json": b"{}"}, gated=True)
    for token in (None, BOB):
        assert HfApi().model_info("lab/gated", token=token).gated
        with pytest.raises(GatedRepoError):
            hf_hub_download("lab/gated", "config.json", token=token)
        with pytest.raises(OSError, match="gated repo"):
            cached_file("lab/gated", "config.json", token=token)
    assert hf_hub_download("lab/gated", "config.json", token=ANA)


def test_serves_ranges(hub, impatient):
    hub.add_repo("ana/voice", {"model.bin": WEIGHTS, "a.json": b"{}"})
    path = "/ana/voice/resolve/main/model.bin"
    for asked, start, stop in [("4-7", 4, 8), ("2000-", 2000, 2048), ("-5", 2043, 2048), ("0-9999", 0, 2048)]:
        answer = get(hub, path, Range=f"bytes={asked}")
        assert answer.status == 206 and answer.read() == WEIGHTS[start:stop]
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/2048"
    with pytest.raises(urllib.error.HTTPError, match="416"):
        get(hub, path, Range="bytes=2048-")
    headers = get(hub, path).headers
    assert headers["ETag"] == headers["X-Linked-Etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert headers["X-Linked-Size"] == headers["Content-Length"] == "2048"
    headers = get(hub, "/ana/voice/resolve/main/a.json").headers
    assert headers["ETag"] == '"9e26dfeeb6e641a33dae4961196235bdb965b21b"', "as `git hash-object` says"
    assert "X-Linked-Etag" not in headers


def test_misbehaves_where_told(hub, ana, impatient):
    hub.add_repo("ana/voice", {"config.json": b"{}", "model.bin": WEIGHTS})
    hub.misbehave("ana/voice/model.bin", "truncate")
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending complete message body"):
        hf_hub_download("ana/voice", "model.bin")
    hub.misbehave("ana/voice/model.bin", WEIGHTS + b"more")
    with pytest.raises(OSError, match="Consistency check failed"):
        hf_hub_download("ana/voice", "model.bin")
    hub.misbehave("ana/voice/model.bin", "fail")
    with pytest.raises(LocalEntryNotFoundError) as error:
        hf_hub_download("ana/voice", "model.bin")
    assert "500" in str(error.value.__cause__)
    assert hf_hub_download("ana/voice", "config.json"), "others are served"
    hub.misbehave("ana/voice/model.bin", None)
    with open(hf_hub_download("ana/voice", "model.bin"), "rb") as file:
        assert file.read() == WEIGHTS

    hub.misbehave("/api/models/ana/voice/commit/main", "fail")
    with pytest.raises(HfHubHTTPError, match="500"):
        ana.upload_file(repo_id="ana/voice", path_in_repo="config.json", path_or_fileobj=b"[]")


def test_takes_only_the_objects_that_were_announced(hub, ana):
    ana.create_repo("ana/voice")
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    put = f"{hub.url}/ana/voice.git/info/lfs/objects/{oid}"
    assert httpx2.put(put, content=WEIGHTS).status_code == 403
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(WEIGHTS)}]}
    authorization = {"Authorization": f"Bearer {ANA}"}
    answer = httpx2.post(f"{hub.url}/ana/voice.git/info/lfs/objects/batch", json=batch, headers=authorization).json()
    assert answer["objects"][0]["actions"]["upload"]["href"] == put
    verify = answer["objects"][0]["actions"]["verify"]["href"]
    asked = {"oid": oid, "size": len(WEIGHTS)}
    assert httpx2.put(put, content=WEIGHTS[::-1]).status_code == 400
    assert httpx2.post(verify, json=asked, headers=authorization).status_code == 404
    assert httpx2.put(put, content=WEIGHTS).status_code == 200
    assert httpx2.post(verify, json=asked, headers=authorization).status_code == 200


def test_loads_models_in_this_process(hub, chat_files, tmp_path):
    hub.add_repo("ana/chat", chat_files)
    chat = pipeline(model="ana/chat")  # the card says what it's for
    assert chat("Hi", max_new_tokens=4, return_full_text=False)[0]["generated_text"].isalpha()
    remote = {"config.json": b'{"model_type": "spoken", "auto_map": {"AutoConfig": "spoken.SpokenConfig"}}'}
    remote |= {"spoken.py": REMOTE_CONFIG.encode(), "sizes.py": b"SIZE = 1\n"}
    hub.add_repo("ana/spoken", remote)
    assert AutoConfig.from_pretrained("ana/spoken", trust_remote_code=True).size == 1
    with point_client_at(hub.url, tmp_path / "another"):
        commit = hub.repos["ana/spoken"].commit({"sizes.py": b"SIZE = 2\n"})
        config = AutoConfig.from_pretrained("ana/spoken", trust_remote_code=True)
        assert config.size == 2 and commit.id in type(config).__module__
        assert type(config).__module__ in sys.modules
    assert type(config).__module__ not in sys.modules
    with pytest.raises(OSError, match="not a valid model identifier"):
        AutoModel.from_pretrained("ana/missing")


def test_points_the_client_back(tmp_path):
    before = dict(vars(huggingface_hub.constants))
    with LoopbackHub() as hub:
        with point_client_at(hub.url, tmp_path):
            assert huggingface_hub.HfApi().endpoint == hub.url == huggingface_hub.hf_api.api.endpoint
        assert dict(vars(huggingface_hub.constants)) == before
        assert huggingface_hub.hf_api.api.endpoint == before["ENDPOINT"] == HfApi().endpoint
    with pytest.raises(httpx2.ConnectError):
        HfApi(endpoint=hub.url).model_info("ana/voice")


@pytest.mark.slow
def test_loads_models_in_a_child_process(hub, ana, chat_files, tmp_path):
    hub.add_repo("ana/chat", chat_files, private=True)
    ana.create_tag("ana/chat", tag="v1")
    hub.add_repo(
        "ana/spoken",
        {
            "config.json": b'{"model_type": "spoken", "auto_map": {"AutoConfig": "spoken.SpokenConfig"}}',
            "spoken.py": REMOTE_CONFIG.encode(),
            "sizes.py": b"SIZE = 1\n",
        },
    )
    environment = child_environment(hub.url, tmp_path / "empty", token=ANA)
    hub.requests.clear()
    child = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    config, text, cache = child.stdout.split()
    assert config == "SpokenConfig" and text.isalpha() and cache == str(tmp_path / "empty/hub")
    assert any(request.path.endswith("model.safetensors") and request.token for request in hub.requests)
