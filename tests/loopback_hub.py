"""A small Hugging Face Hub on 127.0.0.1, for tests to push to and to load from with the real client.

It speaks what `huggingface_hub` and transformers ask of models and Spaces: commits, branches, tags and pull requests,
regular and LFS files, private and gated repos. A Space's name begins with "spaces/". Everything is kept in memory, and
goes with the object.
"""

import base64
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants, hf_api
from huggingface_hub.utils import _cache_manager
from transformers import dynamic_module_utils, utils

LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".pth")
LFS_SIZE = 10_000_000  # bytes: the Hub keeps larger files in LFS, whatever their names
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
CARD_ARRAYS = ("tags", "datasets", "metrics", "model-index")
ROUTES: list[tuple[str, re.Pattern, Callable]] = []


@dataclass
class Request:
    """A request that came: `path` is unquoted and without the query, `token` tells whether there was one."""

    method: str
    path: str
    token: bool
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    user: str | None = None


class Reply(NamedTuple):
    """What's sent back."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


class Refusal(Exception):
    """An error to answer with; `code` is the Hub's `X-Error-Code`, by which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] = MappingProxyType({})):
        super().__init__(message)
        headers = {"X-Error-Message": message.encode("ascii", "replace").decode(), "X-Error-Code": code, **headers}
        self.reply = Reply(json.dumps({"error": message}).encode(), status, headers)


@dataclass(frozen=True)
class Commit:
    """What a repo holds at one moment, which nothing can change."""

    parent: str | None
    files: Mapping[str, bytes]
    title: str
    description: str = ""
    author: str = ""

    @cached_property
    def id(self) -> str:
        """The commit's 40 hexadecimal digits, the same for the same history."""
        return sha1(f"{self.parent} {tree_id(self.files)} {self.title}".encode()).hexdigest()


@dataclass
class Repo:
    """A repo: its commits by id, in the order they came, and its refs by full name (`refs/heads/main`)."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(default_factory=dict)  # by SHA-256
    awaited: dict[str, int] = field(default_factory=dict)  # sizes of the LFS objects that were announced

    def find(self, revision: str) -> Commit:
        """Returns the commit that a branch, a tag, a full ref or an id names."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        commit = next((self.refs[name] for name in names if name in self.refs), revision)
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit]

    def commit(self, changes: Mapping[str, bytes | None], ref: str = "refs/heads/main", **about: str) -> Commit:
        """Commits these files on top of a ref (None deletes one); `about` has a title, a description, an author."""
        parent = self.refs.get(ref)
        files = {**(self.commits[parent].files if parent else {}), **changes}
        kept = {path: data for path, data in sorted(files.items()) if data is not None}
        commit = Commit(parent, MappingProxyType(kept), **{"title": "Upload files", **about})
        for path, data in kept.items():
            if is_lfs(path, len(data)):
                self.lfs_objects[etag(path, data)] = data
        self.commits[commit.id] = commit
        self.refs[ref] = commit.id
        return commit


def is_lfs(path: str, size: int) -> bool:
    """Tells whether the Hub keeps such a file in LFS; an empty file never is."""
    return size > LFS_SIZE or size > 0 and path.endswith(LFS_SUFFIXES)


def blob_id(data: bytes) -> str:
    """Returns the id that git gives a file."""
    return sha1(b"blob %d\0" % len(data) + data).hexdigest()


def etag(path: str, data: bytes) -> str:
    """Returns what tells a file's contents: the SHA-256 in LFS, git's id elsewhere."""
    return sha256(data).hexdigest() if is_lfs(path, len(data)) else blob_id(data)


def tree_id(files: Mapping[str, bytes]) -> str:
    """Returns an id of files and their paths."""
    return sha1(json.dumps([(path, blob_id(data)) for path, data in files.items()]).encode()).hexdigest()


def within(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    """Returns the files of a folder; "" is the top one."""
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    return {path: data for path, data in files.items() if path.startswith(prefix)}


def file_entry(path: str, data: bytes) -> dict:
    """Describes a file as the Hub's lists do."""
    if not is_lfs(path, len(data)):
        return {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    oid = etag(path, data)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
    lfs = {"oid": oid, "sha256": oid, "size": len(data), "pointerSize": len(pointer)}
    return {"type": "file", "path": path, "size": len(data), "oid": blob_id(pointer), "lfs": lfs}


def sibling(path: str, data: bytes, details: bool) -> dict:
    """Describes a file as `model_info` does."""
    entry = file_entry(path, data)
    more = {"size": entry["size"], "blobId": entry["oid"], "lfs": entry.get("lfs")} if details else {}
    return {"rfilename": path, **more}


def card_metadata(readme: str) -> Any:
    """Reads a model card's YAML header, None where there's none."""
    header = re.match(r"\s*---\r?\n(.*?)\r?\n---(\r?\n|$)", readme, re.DOTALL)
    return yaml.safe_load(header[1]) if header else None


def card_errors(readme: str) -> list[str]:
    """Lists what's wrong with a card's header; the Hub also knows which licences, languages and tasks there are."""
    try:
        metadata = card_metadata(readme) or {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata must be a mapping"]
    return [f'"{name}" must be an array' for name in CARD_ARRAYS if not isinstance(metadata.get(name) or [], list)]


def byte_range(header: str | None, size: int) -> range | None:
    """Returns the bytes that a `Range` header asks for, None where there's none."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not asked:
        return None
    first, last = asked.groups()
    start = int(first) if first else max(size - int(last), 0)
    span = range(start, min(int(last) + 1, size) if first and last else size)
    if not span:
        raise Refusal(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return span


def route(method: str, template: str) -> Callable[[Callable], Callable]:
    """Has a method of `LoopbackHub` answer such requests; it's given what stands for each name in braces."""
    parts = {"{repo}": "(?P<repo>(?:spaces/)?[^/]+/[^/]+)", "{path}": "(?P<path>.+)"}
    pattern = re.sub(r"{(\w+)}", lambda name: parts.get(name[0], f"(?P<{name[1]}>[^/]+)"), template)

    def register(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


class LoopbackHub:
    """The Hub. `tokens` gives each token's user, `orgs` each organisation's members.

    `with LoopbackHub(tokens={"hf_ana": "ana"}) as hub:` serves at `hub.url` until the block ends; `hub.repos` are the
    repos by name, and `hub.requests` the requests that came.
    """

    def __init__(self, tokens: Mapping[str, str] | None = None, orgs: Mapping[str, Iterable[str]] | None = None):
        self.tokens = dict(tokens or {})
        self.orgs = {name: set(members) for name, members in (orgs or {}).items()}
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.faults: dict[str, str | bytes | None] = {}
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add_repo(self, name: str, files: Mapping[str, bytes] | None = None, **flags: bool) -> str:
        """Puts a repo there, `private` or `gated` if so said, and returns the id of its last commit."""
        repo = self.repos[name] = Repo(name, **flags)
        first = repo.commit({".gitattributes": GITATTRIBUTES}, title="initial commit")  # the Hub's own
        return (repo.commit(files) if files else first).id

    def misbehave(self, path: str, how: str | bytes | None) -> None:
        """Has one path answer wrongly: "fail" with a 500, "truncate" with half a file, bytes with those; None ends it.

        The path is a file, such as `ana/voice/config.json`, whatever its revision; for "fail" it can also be a
        request's, such as `/api/models/ana/voice`.
        """
        self.faults[path] = how

    def answer(self, request: Request, quoted_path: str) -> Reply:
        """Notes a request and returns the reply of its route."""
        with self.lock:
            self.requests.append(request)
            try:
                self.fault(request.path)
                request.user = self.user_of(request)
                quoted_path = quoted_path.replace("/api/spaces/", "/api/models/spaces/", 1)
                for method, pattern, function in ROUTES:
                    match = pattern.fullmatch(quoted_path)
                    if match and method == request.method.replace("HEAD", "GET"):
                        named = {name: unquote(part) for name, part in match.groupdict().items()}
                        reply = function(self, request, **named)
                        return reply if isinstance(reply, Reply) else Reply(json.dumps(reply).encode())
                raise Refusal(404, f"The loopback Hub doesn't know {request.method} {request.path}")
            except Refusal as refusal:
                return refusal.reply

    def fault(self, path: str) -> str | bytes | None:
        """Returns how a path misbehaves, and fails where that's how."""
        if self.faults.get(path) == "fail":
            raise Refusal(500, "Internal Error - We're working hard to fix this as soon as possible!")
        return self.faults.get(path)

    def user_of(self, request: Request) -> str | None:
        """Returns whose token came, None where none did."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.tokens.get(token)

    def owns(self, user: str | None, name: str) -> bool:
        """Tells whether a user may write to a repo, and read it where it's private or gated."""
        namespace = name.split("/")[-2]
        return user is not None and (user == namespace or user in self.orgs.get(namespace, ()))

    def open(self, request: Request, name: str, to: str = "read") -> Repo:
        """Returns a repo if the request may "read" it, "propose" a change to it or "write" there."""
        repo = self.repos.get(name)
        owns = self.owns(request.user, name)
        if request.user and (repo is None or repo.private and not owns):
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if request.user is None and (repo is None or repo.private or to != "read"):
            # Over https the client knows such a 401 by its address; over http it needs the code.
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        if to == "write" and not owns:
            raise Refusal(403, f"Forbidden: you don't have the rights to push to {name}")
        return repo

    @route("GET", "/")
    def home(self, request: Request) -> Reply:
        """Tells that the Hub is there."""
        return Reply(b"A loopback Hugging Face Hub\n")

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> dict:
        """Tells whose token came."""
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name} for name, members in self.orgs.items() if request.user in members]
        token = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        return {"type": "user", "name": request.user, "fullname": request.user, "orgs": orgs, "auth": token}

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Reply:
        """Checks a model card."""
        readme = json.loads(request.body)["content"]
        errors = card_errors(readme)
        if errors and "text/plain" in request.headers.get("Accept", ""):
            return Reply("\n".join(errors).encode(), 400)
        warnings = [] if errors or card_metadata(readme) else ["empty or missing yaml metadata in repo card"]
        found = {"errors": errors, "warnings": warnings}
        answer = {kind: [{"message": message} for message in messages] for kind, messages in found.items()}
        return Reply(json.dumps(answer).encode(), 400 if errors else 200)

    @route("POST", "/api/repos/create")
    def create_repo(self, request: Request) -> dict | Reply:
        """Makes a repo, once; a Space says with what it is made."""
        asked = json.loads(request.body)
        kind = asked.get("type", "model")
        name = f"{asked['organization'] or request.user}/{asked['name']}"
        name = f"spaces/{name}" if kind == "space" else name
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        if not self.owns(request.user, name):
            raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace of {name}")
        if kind not in ("model", "space") or kind == "space" and "sdk" not in asked:
            raise Refusal(400, "The loopback Hub has models, and Spaces with an sdk.")
        answer = {"url": f"{self.url}/{name}", "name": name}
        if name in self.repos:
            return Reply(json.dumps(answer | {"error": f"You already created this {kind} repo"}).encode(), 409)
        self.add_repo(name, private=asked.get("visibility") == "private")
        return answer

    @route("GET", "/api/models/{repo}")
    @route("GET", "/api/models/{repo}/revision/{revision}")
    def model_info(self, request: Request, repo: str, revision: str = "main") -> dict:
        """Describes a repo at a revision."""
        found = self.open(request, repo)
        commit = found.find(revision)
        readme = commit.files.get("README.md", b"").decode(errors="replace")
        card = {} if card_errors(readme) else card_metadata(readme) or {}
        kind = {name: card[name] for name in ("library_name", "pipeline_tag") if name in card}
        if "config.json" in commit.files:
            kind.setdefault("library_name", "transformers")
        gated = "manual" if found.gated else False
        info = {"id": repo, "author": repo.split("/")[0], "sha": commit.id, "private": found.private, "gated": gated}
        tags = [*kind.values(), *(card.get("tags") or [])]
        siblings = [sibling(path, data, "blobs" in request.query) for path, data in commit.files.items()]
        return {**info, **kind, "tags": tags, "cardData": card, "siblings": siblings}

    @route("GET", "/api/models/{repo}/refs")
    def list_refs(self, request: Request, repo: str) -> dict:
        """Lists branches, tags and pull requests."""
        refs = self.open(request, repo).refs
        kinds = {"branches": "heads", "tags": "tags", "converts": "convert", "pullRequests": "pr"}
        found: dict[str, list[dict]] = {kind: [] for kind in kinds}
        for kind, folder in kinds.items():
            for ref, commit in refs.items():
                if ref.startswith(f"refs/{folder}/"):
                    found[kind].append({"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": commit})
        return found

    @route("GET", "/api/models/{repo}/tree/{revision}")
    @route("GET", "/api/models/{repo}/tree/{revision}/{path}")
    def list_tree(self, request: Request, repo: str, revision: str, path: str = "") -> list[dict]:
        """Lists the files and folders of a folder."""
        files = within(self.open(request, repo).find(revision).files, path)
        if path and not files:
            raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        top = Path(path)
        folders = {folder for name in files for folder in Path(name).parents} - {top, *top.parents}
        entries = [file_entry(name, data) for name, data in files.items()]
        for folder in map(str, sorted(folders)):
            entries.append({"type": "directory", "path": folder, "size": 0, "oid": tree_id(within(files, folder))})
        recursive = request.query.get("recursive") == ["true"]
        return [entry for entry in entries if recursive or Path(entry["path"]).parent == top]

    @route("POST", "/api/models/{repo}/paths-info/{revision}")
    def paths_info(self, request: Request, repo: str, revision: str) -> list[dict]:
        """Describes some files, which the client asks before it copies them."""
        files = self.open(request, repo).find(revision).files
        asked = parse_qs(request.body.decode())["paths"]
        return [file_entry(path, files[path]) for path in asked if path in files]

    @route("GET", "/{repo}/resolve/{revision}/{path}")
    def resolve(self, request: Request, repo: str, revision: str, path: str) -> Reply:
        """Sends a file, or the bytes of it that were asked for."""
        found = self.open(request, repo)
        if found.gated and not self.owns(request.user, repo):
            raise Refusal(403 if request.user else 401, f"Access to model {repo} is restricted.", "GatedRepo")
        commit = found.find(revision)
        headers = {"X-Repo-Commit": commit.id, "Accept-Ranges": "bytes"}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        data = commit.files[path]
        headers["ETag"] = f'"{etag(path, data)}"'
        if is_lfs(path, len(data)):
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
        fault = self.fault(f"{repo}/{path}")
        if isinstance(fault, bytes) and request.method == "GET":
            data = fault
        span = byte_range(request.headers.get("Range"), len(data))
        if span:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{len(data)}"
        sent = data[span.start : span.stop] if span else data
        headers["Content-Length"] = str(len(sent))
        if fault == "truncate":  # at the same byte whatever the range: who asks for the rest gets nothing
            sent = data[span.start if span else 0 : len(data) // 2]
        return Reply(sent, 206 if span else 200, headers)

    @route("POST", "/api/models/{repo}/branch/{branch}")
    def create_branch(self, request: Request, repo: str, branch: str) -> dict:
        """Makes a branch."""
        return self.create_ref(
            request, repo, f"refs/heads/{branch}", json.loads(request.body).get("startingPoint", "main")
        )

    @route("POST", "/api/models/{repo}/tag/{revision}")
    def create_tag(self, request: Request, repo: str, revision: str) -> dict:
        """Makes a tag."""
        return self.create_ref(request, repo, f"refs/tags/{json.loads(request.body)['tag']}", revision)

    def create_ref(self, request: Request, repo: str, ref: str, revision: str) -> dict:
        """Names a commit."""
        found = self.open(request, repo, "write")
        if ref in found.refs:
            raise Refusal(409, f"Reference already exists: {ref}")
        found.refs[ref] = found.find(revision).id
        return {}

    @route("POST", "/api/models/{repo}/preupload/{revision}")
    def preupload(self, request: Request, repo: str, revision: str) -> dict:
        """Says how each file is to be sent, and what's there already."""
        present = self.open(request, repo, "propose" if "create_pr" in request.query else "write").find(revision).files
        files = []
        for asked in json.loads(request.body)["files"]:
            path = asked["path"]
            mode = "lfs" if is_lfs(path, asked["size"]) else "regular"
            oid = etag(path, present[path]) if path in present else None  # the client leaves out what's the same
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    # The client says no revision here for a pull request, so whoever may open one may send objects.
    @route("POST", "/{repo}.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, repo: str) -> dict:
        """Says where to send LFS objects that aren't there."""
        found = self.open(request, repo, "propose")
        asked = json.loads(request.body)
        if asked["operation"] != "upload" or "basic" not in asked["transfers"]:
            raise Refusal(422, "The loopback Hub has basic LFS uploads only.")
        base = f"{self.url}/{repo}.git/info/lfs/objects"
        for item in asked["objects"]:
            if item["oid"] not in found.lfs_objects:
                found.awaited[item["oid"]] = item["size"]
                item["actions"] = {"upload": {"href": f"{base}/{item['oid']}"}, "verify": {"href": f"{base}/verify"}}
        return {"transfer": "basic", "objects": asked["objects"]}

    # The client sends no token here: the Hub gives it a signed address, so this takes what a batch announced.
    @route("PUT", "/{repo}.git/info/lfs/objects/{oid}")
    def lfs_upload(self, request: Request, repo: str, oid: str) -> Reply:
        """Takes an LFS object."""
        found = self.repos.get(repo)
        if found is None or oid not in found.awaited:
            raise Refusal(403, "SignatureDoesNotMatch")
        if (len(request.body), sha256(request.body).hexdigest()) != (found.awaited[oid], oid):
            raise Refusal(400, f"BadDigest: not the {found.awaited[oid]} bytes of {oid}")
        found.lfs_objects[oid] = request.body
        return Reply(b"")

    @route("POST", "/{repo}.git/info/lfs/objects/verify")
    def lfs_verify(self, request: Request, repo: str) -> dict:
        """Tells whether an LFS object came."""
        asked = json.loads(request.body)
        if len(self.open(request, repo, "propose").lfs_objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, f"Object not found: {asked['oid']}")
        return {}

    @route("POST", "/api/models/{repo}/commit/{revision}")
    def create_commit(self, request: Request, repo: str, revision: str) -> dict:
        """Commits, to a branch or a new pull request."""
        pull = "create_pr" in request.query
        found = self.open(request, repo, "propose" if pull else "write")
        head = found.find(revision)
        header, *operations = map(json.loads, request.body.splitlines())
        about = header["value"]
        if about.get("parentCommit", head.id) != head.id:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        changes: dict[str, bytes | None] = {}
        for operation in operations:
            changes |= changes_of(found, head, operation["key"], operation["value"])
        number = 1 + sum(ref.startswith("refs/pr/") for ref in found.refs)
        ref = f"refs/pr/{number}" if pull else revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if pull:
            found.refs[ref] = head.id
        elif ref not in found.refs or ref.startswith("refs/tags/"):
            raise Refusal(400, f"{revision} isn't a branch")
        commit = found.commit(
            changes, ref, title=about["summary"], description=about["description"], author=request.user
        )
        answer = {"commitOid": commit.id, "commitUrl": f"{self.url}/{repo}/commit/{commit.id}"}
        return answer | ({"pullRequestUrl": f"{self.url}/{repo}/discussions/{number}"} if pull else {})


def changes_of(repo: Repo, head: Commit, kind: str, value: dict) -> dict[str, bytes | None]:
    """Returns what one line of a commit changes: new contents by path, None for what goes."""
    path = value["path"]
    if kind == "file":
        return {path: base64.b64decode(value["content"])}
    if kind == "lfsFile":
        if value["oid"] not in repo.lfs_objects:
            raise Refusal(400, f"{path}: there's no LFS object {value['oid']}")
        return {path: repo.lfs_objects[value["oid"]]}
    gone = within(head.files, path) if kind == "deletedFolder" else {path} & head.files.keys()
    if not gone:
        raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
    return dict.fromkeys(gone)


class Handler(BaseHTTPRequestHandler):
    """Reads a request and sends `LoopbackHub.answer`, one connection each: none outlives the Hub."""

    def handle_request(self) -> None:
        """Serves whatever method."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        details = (unquote(url.path), "Authorization" in self.headers, parse_qs(url.query), self.headers, body)
        reply = self.server.hub.answer(Request(self.command, *details), url.path)
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_HEAD = do_GET = do_POST = do_PUT = handle_request

    def log_message(self, *parts: object) -> None:
        """Prints nothing: `LoopbackHub.requests` has it all."""


def child_environment(url: str, home: str | Path, token: str | None = None) -> dict[str, str]:
    """Returns the environment of a child process that knows this Hub and this `HF_HOME` only.

    hf_xet is off: with it, `huggingface_hub` sends LFS files to Xet's servers without asking the Hub.
    """
    others = ("HF_", "HUGGING", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return kept | settings | ({"HF_TOKEN": token} if token else {})


@contextmanager
def point_client_at(url: str, home: str | Path, token: str | None = None) -> Iterator[None]:
    """Has this process's `huggingface_hub` and transformers use the Hub at `url` and keep everything under `home`.

    What they read from the environment when they were imported comes back at the end. `HfApi` objects made before
    keep their own address.
    """
    home = Path(home)
    settings = {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        patch.setattr(_cache_manager, "HF_HUB_CACHE", settings["HF_HUB_CACHE"])
        patch.setattr(hf_api.api, "endpoint", url)  # the one behind `huggingface_hub.whoami` and such
        patch.setattr(utils.hub, "_hf_api", None)  # transformers' one: made anew when it's needed
        # transformers adds that folder, and Python would look into the one before first.
        patch.setattr(sys, "path", [folder for folder in sys.path if folder != utils.hub.HF_MODULES_CACHE])
        for module in (utils, utils.hub, dynamic_module_utils):
            patch.setattr(module, "HF_MODULES_CACHE", str(home / "modules"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        forget_remote_code()
        yield
    forget_remote_code()


def forget_remote_code() -> None:
    """Drops the modules that transformers imported from repos: they'd hide those of another home."""
    for name in list(sys.modules):
        if name.split(".")[0] == utils.hub.TRANSFORMERS_DYNAMIC_MODULE_NAME:
            del sys.modules[name]
