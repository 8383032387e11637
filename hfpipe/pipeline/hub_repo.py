"""Write a voice-qa repo whole or not at all, with the code that loads it and the cards of the models in it."""

import contextlib
import copy
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
from huggingface_hub import CommitInfo, HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError

from .engine_protocols import ClonesVoices, SavesItself, SavesVoices, SpeaksLanguages
from .hub_card import WHISPER_CARD, check_copy, make_repo_card, merge_cards, write_card
from .hub_code import CUSTOM_PIPELINES, ENTRY, modules_here, write_code
from .hub_parts import PARTS
from .hub_weights import save_model

WEIGHTS = re.compile(r"(model|pytorch_model)[\w.-]*\.(safetensors|bin)(\.index\.json)?")


def write_repo(pipe, directory, copy_parts: bool, max_shard_size: int | str) -> None:
    """Write a pipeline as a voice-qa repo, and leave it as it is; see `VoiceQAPipeline.save_pretrained`."""
    written = [name for name in PARTS if copy_parts or name not in pipe.sources or pipe.sources[name].is_folder]
    for name in written:
        part = getattr(pipe, name)
        if not isinstance(part, SavesItself):
            raise ValueError(
                f"the {name} is a {type(part).__name__} without save_pretrained(folder), so this pipeline can't be "
                f"saved. Give the object that method, or load {name}= from a folder or an id."
            )
        if name in pipe.sources:
            check_copy(name, pipe.sources[name], pipe.token)
    with staged(directory, replaced=(*PARTS, WHISPER_CARD, f"{ENTRY}.py", *modules_here())) as folder:
        for name in written:
            getattr(pipe, name).save_pretrained(folder / name)
            if name in pipe.sources:
                write_card(pipe.sources[name], pipe.token, folder / name / "README.md")
        if "tts" not in written and isinstance(pipe.tts, SavesVoices) and pipe.tts.saved_voices:
            (folder / "tts").mkdir()
            pipe.tts.write_voices(folder / "tts")
        write_card(pipe.sources["whisper"], pipe.token, folder / WHISPER_CARD)
        save_model(pipe.model, folder, max_shard_size=max_shard_size)
        copy.deepcopy(pipe.tokenizer).save_pretrained(folder)
        pipe.feature_extractor.save_pretrained(folder)
        parts = {name: name if name in written else str(pipe.sources[name]) for name in PARTS}
        _update_json(folder / "config.json", custom_pipelines=CUSTOM_PIPELINES, voice_qa=parts)
        for file in folder.rglob("tokenizer_config.json"):  # transformers notes whether it read them from the Hub
            _update_json(file, is_local=None)
        write_code(pipe, folder)


def _update_json(file: Path, **entries) -> None:
    """Set entries of a JSON object in a file; None removes one."""
    settings = {**json.loads(file.read_text(encoding="utf-8")), **entries}
    settings = {key: value for key, value in settings.items() if key not in entries or value is not None}
    is_sorted = file.name == "config.json"  # as transformers writes it; of a tokenizer's it keeps the order
    text = json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=is_sorted)
    file.write_text(text + "\n", encoding="utf-8")


def upload_repo(pipe, folder: Path, repo_id: str, private, revision, token, tags, **commit) -> CommitInfo:
    """Upload a repo that `write_repo` wrote, with a model card; see `VoiceQAPipeline.push_to_hub`."""
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/pr"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    languages = pipe.tts.languages if isinstance(pipe.tts, SpeaksLanguages) else None
    clones = isinstance(pipe.tts, ClonesVoices) and pipe.tts.clones
    card = make_repo_card(folder, repo_id, languages, clones, tags, token)
    with contextlib.suppress(EntryNotFoundError):  # a repo without a card
        old = api.hf_hub_download(repo_id, "README.md", revision=revision)
        card = merge_cards(ModelCard(Path(old).read_text("utf-8-sig"), ignore_metadata_errors=True), card)
    card.save(folder / "README.md")
    weights = filter(WEIGHTS.fullmatch, api.list_repo_files(repo_id, revision=revision))
    stale = [*(f"{name}/*" for name in PARTS), WHISPER_CARD, f"{ENTRY}.py", *modules_here(), *weights]
    return api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, delete_patterns=stale, **commit)


@contextlib.contextmanager
def staged(target: str | os.PathLike, replaced: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield an empty folder to write a repo in, and move what was written to `target` once it is complete.

    An error leaves the target as it was. Killed at any moment, this leaves the old repo, or none: a folder without
    config.json, which is the first file to go and the last to come. Other files in the target are left alone.

    Args:
        target: a folder, which need not exist.
        replaced: names of files and folders of an old repo in the target, to be removed with its weights.

    Raises:
        NotADirectoryError: the target is a file.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give a folder to save in, which need not exist.")
    existed = target.is_dir()
    target.mkdir(parents=True, exist_ok=True)
    for left_over in target.glob(".saving.*"):
        if not psutil.pid_exists(int(left_over.suffix[1:])):
            shutil.rmtree(left_over)
    stage = target / f".saving.{os.getpid()}"
    stage.mkdir()
    try:
        yield stage
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        if not existed:
            shutil.rmtree(target)
        raise
    written = sorted((path.name for path in stage.iterdir()), key=lambda name: name == "config.json")
    weights = (path.name for path in target.iterdir() if WEIGHTS.fullmatch(path.name))
    for name in ("config.json", *replaced, *weights, *written[:-1]):
        _remove(target / name)
    for name in written:
        os.replace(stage / name, target / name)
    stage.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
