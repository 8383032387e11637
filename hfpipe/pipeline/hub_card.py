"""Write the model card of a voice-qa repo, from the cards of the models in it."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from .hub_access import XTTS_ID, hub_reachable, split_revision
from .hub_parts import PARTS, Source
from .tts_xtts_license import LICENCE_URL

WHISPER_CARD = "WHISPER.md"  # the Whisper's own card, where README.md is the whole repo's
BEGIN, END = "<!-- hfpipe: written anew at each push -->", "<!-- hfpipe: end; text outside is kept -->"
WANTED = {"whisper": "hears", "llm": "thinks", "tts": "speaks"}
QUESTIONS = {"es": "¿Cuál es la capital de Francia?", "en": "What is the capital of France?"}


class Licence(NamedTuple):
    """A licence as the Hub's metadata say it: an id, or "other" with a name and a link."""

    id: str = "unknown"
    name: str | None = None
    link: str | None = None

    def __str__(self) -> str:
        return f"[{self.name or self.id}]({self.link})" if self.link else self.name or self.id


CPML = Licence("other", "coqui-public-model-license", LICENCE_URL)
# From free to strict. A licence with terms of its own (Gemma's, Llama's) is stricter than these, one that isn't known
# stricter still, and one that forbids commercial use the strictest.
FREE = "cc0-1.0 unlicense mit isc bsd-2-clause bsd-3-clause bsd apache-2.0 cc-by-4.0 mpl-2.0 lgpl-3.0".split()
FREE += "cc-by-sa-4.0 gpl-2.0 gpl-3.0 agpl-3.0".split()
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|coqui-public-model|\bcpml\b", re.IGNORECASE)
NO_COPIES = re.compile(r"coqui[- ]public[- ]model[- ]licen[sc]e|\bcpml\b", re.IGNORECASE)


def strictness(licence: Licence) -> int:
    """Orders licences: the higher, the less one may do."""
    if NON_COMMERCIAL.search(f"{licence.id} {licence.name}"):
        return len(FREE) + 2
    if licence.id == "unknown":
        return len(FREE) + 1
    return FREE.index(licence.id) if licence.id in FREE else len(FREE)


def strictest(licences) -> Licence:
    """Gives the strictest of some licences; different ones that are as strict, under their names."""
    most = max(map(strictness, licences))
    found = list(dict.fromkeys(licence for licence in licences if strictness(licence) == most))
    return found[0] if len(found) == 1 else Licence("other", " and ".join(each.name or each.id for each in found))


def read_card(source: Source, token=None) -> ModelCard | None:
    """Reads the card of a model, from its folder, the cache or the Hub; None where there is none to be had."""
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
    except (ValueError, TypeError, yaml.YAMLError):  # a card that the Hub couldn't read either
        return None


def read_licence(source: Source, token=None) -> Licence:
    """Reads under which licence a model is, from its card or the licence beside it."""
    if source.name == XTTS_ID or _holds_cpml(source):
        return CPML
    card = read_card(source, token)
    if card is None or not isinstance(card.data.license, str):
        return Licence()
    return Licence(card.data.license, card.data.license_name, card.data.license_link)


def check_copy(name: str, source: Source, token=None) -> None:
    """Refuses to copy weights whose licence forbids it.

    Args:
        name: of the part.
        source: where it was loaded from.
        token: for a private repo.

    Raises:
        ValueError: the licence; the message says why, and what to do.
    """
    licence = read_licence(source, token)
    if NO_COPIES.search(f"{licence.id} {licence.name}"):
        raise ValueError(
            f"the {name} from {source} is never copied: its licence is the Coqui Public Model License "
            f"({LICENCE_URL}), non-commercial, and hfpipe points at such weights instead. Load {name}= by its Hub id "
            f"(such as {XTTS_ID!r}), and save without copy_parts=True: the repo then names the id and its commit."
        )


def write_card(source: Source, token, file: Path) -> None:
    """Writes the card of a model that is copied into a repo; for one from the Hub, with its id and commit added."""
    card = read_card(source, token)
    is_from_hub = not source.is_folder and source.find("config.json")  # in the cache; else a folder that is gone
    if is_from_hub and not _is_voice_qa(source):
        card = card or ModelCard("---\nlicense: unknown\n---\n")
        card.data.base_model = source.name
        card.data.base_model_revision = source.revision
    if card is not None:
        card.save(file)


def make_repo_card(folder: Path, repo_id: str, languages, clones: bool, tags=None, token=None) -> ModelCard:
    """Makes the card of a voice-qa repo from its files.

    Args:
        folder: the repo, as `save_pretrained` wrote it.
        repo_id: "org/name", for the examples.
        languages: ISO 639-1 codes that the voice speaks, or None.
        clones: whether the voice imitates a `speaker_wav`.
        tags: further tags.
        token: for the cards of private repos that it points at.
    """
    named = _read_json(folder / "config.json")["voice_qa"]
    parts = {"whisper": Source(str(folder))}
    parts |= {name: _part_source(folder, named[name]) for name in PARTS}
    cards = {name: read_card(source, token) for name, source in parts.items()}
    licences = {name: read_licence(source, token) for name, source in parts.items()}
    licence = strictest(licences.values())
    origins = {name: _origin(parts[name], cards[name]) for name in parts}
    results = cards["whisper"].data.eval_results if cards["whisper"] else None
    data = ModelCardData(
        pipeline_tag="audio-to-audio",
        library_name="transformers",
        language=sorted(languages, key=lambda code: (code != "es", code)) if languages else "multilingual",
        base_model=list(dict.fromkeys(origin.name for origin in origins.values() if origin)) or None,
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results,
        tags=["voice-qa", "speech-to-speech", *(["voice-cloning"] if clones else []), "custom_code", *(tags or [])],
    )
    rows = [
        f"| {WANTED[name]} | {_link(origins[name]) or 'of this repo'} "
        f"| {'`' + origins[name].revision + '`' if origins[name] and origins[name].revision else ''} "
        f"| {'in `' + _place(name, named) + '`' if parts[name].is_folder else 'its own repo'} | {licences[name]} |"
        for name in parts
    ]
    text = TEXT.format(
        name=repo_id.split("/")[-1],
        repo_id=repo_id,
        language=next((code for code in QUESTIONS if not languages or code in languages), languages and languages[0]),
        question=next((text for code, text in QUESTIONS.items() if not languages or code in languages), "1, 2, 3"),
        parts="\n".join(rows),
        licence=licence,
        results=_results(results),
        begin=BEGIN,
        end=END,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def merge_cards(old: ModelCard, new: ModelCard) -> ModelCard:
    """Puts a new card in the place of an old one, and keeps what somebody wrote around it by hand."""
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
    """Gives the Hub id, and its commit, that a model comes from."""
    if not source.is_folder:
        return source
    base = card.data.base_model if card else None
    base = base[0] if isinstance(base, list) and base else base
    return Source(base, card.data.get("base_model_revision")) if isinstance(base, str) else None


def _link(origin: Source | None) -> str:
    return f"[{origin.name}](https://huggingface.co/{origin.name})" if origin else ""


def _results(results) -> str:
    """Tabulates evaluation results as Markdown."""
    if not results:
        return "None came with the Whisper of this repo."
    rows = [
        f"| {result.metric_name or result.metric_type} | {result.dataset_name} "
        f"| {' '.join(filter(None, (result.dataset_config, result.dataset_split)))} | {result.metric_value} |"
        for result in results
    ]
    return "\n".join(["| measure | data | part | value |", "|---|---|---|---|", *rows])


def _holds_cpml(source: Source) -> bool:
    """Tells whether a folder's licence file is Coqui's."""
    files = (Path(source.name, name) for name in ("LICENSE", "LICENSE.txt", "LICENSE.md")) if source.is_folder else ()
    return any(file.is_file() and NO_COPIES.search(file.read_text("utf-8", "replace")[:2000]) for file in files)


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


TEXT = """{begin}
# {name}

A spoken question in, a spoken answer out: a transformers pipeline that hears with Whisper, thinks with a local LLM and
answers aloud.

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

`trust_remote_code=True` runs the Python files of this repo: read them, and pin them with `revision=`. With hfpipe
installed, `hfpipe.load("{repo_id}")` runs none of them. The repo is a plain Whisper too:
`pipeline("automatic-speech-recognition", model="{repo_id}")`.

## Parts

| | model | commit | weights | licence |
|---|---|---|---|---|
{parts}

As a whole it is under the strictest of these: {licence}.

## Measured

{results}

## Voices and consent

Clone a voice (`speaker_wav=`, `pipe.tts.save_voice`) only if its speaker agreed to it. A saved voice carries who
agreed and when. Tell those who listen that the voice is synthetic.
{end}
"""
