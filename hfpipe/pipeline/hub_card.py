"""Generate the model card of a voice-qa repo from the cards of its models."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from .hub_access import XTTS_ID, XTTS_LICENSE_URL, hub_reachable, split_revision
from .hub_parts import PARTS, Source

WHISPER_CARD = "WHISPER.md"  # the card of the Whisper, since README.md is the card of the whole repo
BEGIN, END = "<!-- hfpipe: written anew at each push -->", "<!-- hfpipe: end; text outside is kept -->"
ROLES = {"whisper": "speech recognition", "llm": "language model", "tts": "text-to-speech"}
QUESTIONS = {"es": "¿Cuál es la capital de Francia?", "en": "What is the capital of France?"}


class License(NamedTuple):
    """A license as in the Hub's metadata: an id, or "other" with a name and a link."""

    id: str = "unknown"
    name: str | None = None
    link: str | None = None

    def __str__(self) -> str:
        return f"[{self.name or self.id}]({self.link})" if self.link else self.name or self.id


CPML = License("other", "coqui-public-model-license", XTTS_LICENSE_URL)
# In order of strictness. A license with terms of its own (Gemma's, Llama's) counts as stricter than these, an unknown
# license as stricter still, and a license that forbids commercial use as the strictest.
FREE = "cc0-1.0 unlicense mit isc bsd-2-clause bsd-3-clause bsd apache-2.0 cc-by-4.0 mpl-2.0 lgpl-3.0".split()
FREE += "cc-by-sa-4.0 gpl-2.0 gpl-3.0 agpl-3.0".split()
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|coqui-public-model|\bcpml\b", re.IGNORECASE)
NO_COPIES = re.compile(r"coqui[- ]public[- ]model[- ]licen[sc]e|\bcpml\b", re.IGNORECASE)


def strictness(license: License) -> int:
    """Return the rank of a license by its restrictions; a higher rank permits less."""
    if NON_COMMERCIAL.search(f"{license.id} {license.name}"):
        return len(FREE) + 2
    if license.id == "unknown":
        return len(FREE) + 1
    return FREE.index(license.id) if license.id in FREE else len(FREE)


def strictest(licenses) -> License:
    """Return the strictest license; several that are equally strict are combined under all of their names."""
    most = max(map(strictness, licenses))
    found = list(dict.fromkeys(license for license in licenses if strictness(license) == most))
    return found[0] if len(found) == 1 else License("other", " and ".join(each.name or each.id for each in found))


def read_card(source: Source, token=None) -> ModelCard | None:
    """Load the card of a model from its folder, the cache or the Hub; return None if it has none or can't be read."""
    name = WHISPER_CARD if _is_voice_qa(source) else "README.md"
    file = source.find(name)
    if file is None and not source.is_folder and hub_reachable():
        try:
            file = Path(hf_hub_download(source.name, name, revision=source.revision, token=token))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
            return None
    if file is None:
        return None
    try:
        return ModelCard(file.read_text(encoding="utf-8-sig"), ignore_metadata_errors=True)
    except (ValueError, TypeError, yaml.YAMLError):  # a card that the Hub rejects, too
        return None


def read_license(source: Source, token=None) -> License:
    """Return the license of a model, from its card or the license file in its folder."""
    if source.name == XTTS_ID or _holds_cpml(source):
        return CPML
    card = read_card(source, token)
    if card is None or not isinstance(card.data.license, str):
        return License()
    return License(card.data.license, card.data.license_name, card.data.license_link)


def check_copy(name: str, source: Source, token=None) -> None:
    """Raise ValueError if the license of a part forbids copying its weights.

    Args:
        name: the part, such as "tts".
        source: where the part was loaded from.
        token: access token for a private repo.

    Raises:
        ValueError: the license forbids it.
    """
    license = read_license(source, token)
    if NO_COPIES.search(f"{license.id} {license.name}"):
        raise ValueError(
            f"the {name} from {source} is never copied: its license is the Coqui Public Model License "
            f"({XTTS_LICENSE_URL}), non-commercial, and hfpipe points at such weights instead. Load {name}= by its "
            f"Hub id (such as {XTTS_ID!r}), and save without copy_parts=True: the repo then names id and commit."
        )


def write_card(source: Source, token, file: Path) -> None:
    """Write the card of a model that is copied into a repo, adding the id and commit if it came from the Hub."""
    card = read_card(source, token)
    is_from_hub = not source.is_folder and source.find("config.json")  # else a deleted folder
    if is_from_hub and not _is_voice_qa(source):
        card = card or ModelCard("---\nlicense: unknown\n---\n")
        card.data.base_model = source.name
        card.data.base_model_revision = source.revision
    if card is not None:
        card.save(file)


def make_repo_card(folder: Path, repo_id: str, languages, clones: bool, tags=None, token=None) -> ModelCard:
    """Return the card of a voice-qa repo.

    Args:
        folder: the repo, as written by `save_pretrained`.
        repo_id: "org/name", for the code examples.
        languages: ISO 639-1 codes of the languages that the TTS model speaks, or None.
        clones: whether the TTS model clones the voice of a `speaker_wav`.
        tags: additional tags.
        token: access token, for the cards of private repos that it refers to.
    """
    named = _read_json(folder / "config.json")["voice_qa"]
    parts = {"whisper": Source(str(folder))}
    parts |= {name: _part_source(folder, named[name]) for name in PARTS}
    cards = {name: read_card(source, token) for name, source in parts.items()}
    licenses = {name: read_license(source, token) for name, source in parts.items()}
    license = strictest(licenses.values())
    origins = {name: _origin(parts[name], cards[name]) for name in parts}
    results = cards["whisper"].data.eval_results if cards["whisper"] else None
    data = ModelCardData(
        pipeline_tag="audio-to-audio",
        library_name="transformers",
        language=sorted(languages, key=lambda code: (code != "es", code)) if languages else "multilingual",
        base_model=list(dict.fromkeys(origin.name for origin in origins.values() if origin)) or None,
        license=license.id,
        license_name=license.name,
        license_link=license.link,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results,
        tags=["voice-qa", "speech-to-speech", *(["voice-cloning"] if clones else []), "custom_code", *(tags or [])],
    )
    rows = [
        f"| {ROLES[name]} | {_link(origins[name]) or 'of this repo'} "
        f"| {_commit(origins[name])} "
        f"| {'in `' + _place(name, named) + '`' if parts[name].is_folder else 'its own repo'} | {licenses[name]} |"
        for name in parts
    ]
    language, question = example_question(languages)
    text = TEXT.format(
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        language=language,
        question=question,
        parts="\n".join(rows),
        license=license,
        results=_results(results),
        begin=BEGIN,
        end=END,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def example_question(languages) -> tuple[str, str]:
    """Return one of a voice's languages, ISO 639-1, and a question in it. None as languages are all."""
    for code, text in QUESTIONS.items():
        if not languages or code in languages:
            return code, text
    return languages[0], "1, 2, 3"


def merge_cards(old: ModelCard, new: ModelCard) -> ModelCard:
    """Update the generated part of a card, keeping the text around it and the metadata that was added by hand."""
    before, _, rest = old.text.partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n\n".join(filter(None, (before.strip(), new.text.strip(), after.strip())))
    data = {**old.data.to_dict(), **new.data.to_dict()}
    data["tags"] = list(dict.fromkeys([*new.data.tags, *(old.data.tags or [])]))
    return ModelCard(f"---\n{ModelCardData(**data, ignore_metadata_errors=True).to_yaml()}\n---\n\n{text}\n")


def _is_voice_qa(source: Source) -> bool:
    config = source.find("config.json")
    return config is not None and "voice_qa" in _read_json(config)


def _part_source(folder: Path, reference: str) -> Source:
    return Source(*split_revision(reference)) if "/" in reference else Source(str(folder / reference))


def _place(name: str, named: dict) -> str:
    return f"{named[name]}/" if name in named else "model.safetensors"


def _origin(source: Source, card: ModelCard | None) -> Source | None:
    """Return the Hub id and commit that a model comes from, or None if unknown."""
    if not source.is_folder:
        return source
    if card is None:
        return None
    base = card.data.base_model
    base = base[0] if isinstance(base, list) and base else base
    return Source(base, card.data.get("base_model_revision")) if isinstance(base, str) else None


def _link(origin: Source | None) -> str:
    return f"[{origin.name}](https://huggingface.co/{origin.name})" if origin else ""


def _commit(origin: Source | None) -> str:
    return f"`{origin.revision}`" if origin and origin.revision else ""


def _results(results) -> str:
    """Return a Markdown table of evaluation results."""
    if not results:
        return "The Whisper of this repo came without evaluation results."
    rows = [
        f"| {result.metric_name or result.metric_type} | {result.dataset_name} "
        f"| {' '.join(filter(None, (result.dataset_config, result.dataset_split)))} | {result.metric_value} |"
        for result in results
    ]
    return "\n".join(["| metric | dataset | split | value |", "|---|---|---|---|", *rows])


def _holds_cpml(source: Source) -> bool:
    """Return whether the license file of a folder is the Coqui Public Model License."""
    files = (Path(source.name, name) for name in ("LICENSE", "LICENSE.txt", "LICENSE.md")) if source.is_folder else ()
    return any(file.is_file() and NO_COPIES.search(file.read_text("utf-8", "replace")[:2000]) for file in files)


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


TEXT = """{begin}
# {name}

A speech-to-speech voice assistant as a transformers pipeline: Whisper transcribes a spoken question, a local LLM
answers it, and a text-to-speech model speaks the answer.

## Use

```bash
pip install -r https://huggingface.co/{repo_id}/resolve/main/requirements.txt
```

```python
import soundfile
from transformers import pipeline

pipe = pipeline("voice-qa", model="{repo_id}", trust_remote_code=True)

question = pipe.tts("{question}", language="{language}")  # or the path of a recording, a URL, bytes
result = pipe({{"array": question, "sampling_rate": pipe.tts.sampling_rate}}, language="{language}")
print(result["question"], "→", result["answer"])
soundfile.write("answer.wav", result["audio"], result["sampling_rate"])
```

`trust_remote_code=True` runs the Python files of this repo: review them, and pin them with `revision=`. With hfpipe
installed, `hfpipe.load("{repo_id}")` runs none of them. The repo can also be loaded as a Whisper on its own:
`pipeline("automatic-speech-recognition", model="{repo_id}")`.

## Parts

| | model | commit | weights | license |
|---|---|---|---|---|
{parts}

The repo as a whole is under the strictest of these licenses: {license}.

## Evaluation

{results}

## Voices and consent

Only clone a voice (`speaker_wav=`, `pipe.tts.save_voice`) with the consent of its speaker. A saved voice records who
consented and when. Tell listeners that the voice is synthetic.
{end}
"""
