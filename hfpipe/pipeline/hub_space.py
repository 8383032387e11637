"""Write a Space that shows a voice-qa repo: a page to ask aloud, which loads the repo as others do, without hfpipe."""

import shutil
import sys
import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, ModelCard, SpaceCardData

from .audio import write_wav
from .engine_protocols import SpeaksLanguages
from .hub_card import example_question

GRADIO = "6.31.0"  # with which the demo was run
PACKAGES = "ffmpeg\n"  # decodes what phones record; Debian's
DEMO = ("space_demo.py", "space_player.js")
APP = '''"""The demo of {repo_id}, at the commit with which it was pushed. It runs the Python files of that repo."""

from space_demo import demo
from transformers import pipeline

pipe = pipeline("voice-qa", model="{repo_id}", revision="{commit}", trust_remote_code=True)
page = demo(pipe, examples=["examples/question.wav"])

if __name__ == "__main__":
    page.launch()
'''
TEXT = """---
{metadata}
---

# {title}

Ask [{repo_id}](https://huggingface.co/{repo_id}) aloud, and hear its answer. Where that repo is private, give this
Space a secret `HF_TOKEN`: a token that may read it.

Only clone a voice with the consent of its speaker.
"""


def check_space(create_pr: bool) -> None:
    """Raise unless a Space can be made of what will be pushed.

    Raises:
        ValueError: it is pushed as a pull request, which isn't part of the repo yet.
        ImportError: this is the code of a repo, which doesn't carry the demo.
    """
    if create_pr:
        raise ValueError(
            "space=True makes a Space of what is pushed, and a pull request isn't part of the repo yet. Push it "
            "without create_pr=True, or merge it and push again."
        )
    missing = [name for name in DEMO if not Path(__file__).with_name(name).is_file()]
    if missing:
        raise ImportError(
            f"the code of this repo doesn't carry the demo ({', '.join(missing)}). To make a Space of it install "
            "hfpipe, and load the repo by hfpipe.load(…)."
        )


def push_space(pipe, repo: Path, pushed: CommitInfo, private, token, **commit) -> None:
    """Make or update the Space of a repo that was pushed, under the same name.

    Args:
        pipe: the pipeline, whose voice speaks the example question.
        repo: the folder of the repo, as it was pushed.
        pushed: the commit that the Space loads.
        private, token, commit: see `VoiceQAPipeline.push_to_hub`.
    """
    api, name = HfApi(token=token), pushed.repo_url.repo_id
    api.create_repo(name, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_space(pipe, repo, Path(scratch), name, pushed.oid)
        api.upload_folder(repo_id=name, repo_type="space", folder_path=scratch, **commit)


def write_space(pipe, repo: Path, folder: Path, repo_id: str, commit: str) -> None:
    """Write the files of a Space to a folder that exists; `commit` of the repo is what it loads."""
    card = ModelCard.load(repo / "README.md").data
    metadata = SpaceCardData(
        title=repo_id.split("/")[-1],
        emoji="🗣️",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        license=card.license,
        license_name=card.license_name,
        license_link=card.license_link,
        models=[repo_id],
        tags=["voice-qa", "speech-to-speech"],
    )
    text = TEXT.format(metadata=metadata.to_yaml(), title=metadata.title, repo_id=repo_id)
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "app.py").write_text(APP.format(repo_id=repo_id, commit=commit), encoding="utf-8")
    requirements = (repo / "requirements.txt").read_text(encoding="utf-8")
    (folder / "requirements.txt").write_text(f"{requirements}gradio=={GRADIO}\n", encoding="utf-8")
    (folder / "packages.txt").write_text(PACKAGES, encoding="utf-8")
    for name in DEMO:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    language, question = example_question(pipe.tts.languages if isinstance(pipe.tts, SpeaksLanguages) else None)
    (folder / "examples").mkdir()
    write_wav(folder / "examples" / "question.wav", pipe.tts(question, language=language), pipe.tts.sampling_rate)
