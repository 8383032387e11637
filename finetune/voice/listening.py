"""Make a listening test of two folders of recordings: a page of blind pairs and opinions, which needs no server."""

import json
import os
import random
import warnings
from pathlib import Path

import numpy as np

from hfpipe.pipeline.audio import load_audio, write_wav
from hfpipe.pipeline.files import write_text

from ..audio_files import AUDIO_FILE
from ..report import write_json

LEVEL = -26.0  # dB below full scale, of all recordings, as ITU-T P.800 asks for: louder sounds better
ANCHORS = 3  # recordings that are also damaged, to find listeners who don't listen
ANCHOR_NOISE = 0.0  # dB of the speech above the noise of a damaged one: bad to any listener
SIDES = ("a", "b")


def make_listening_test(a: str | os.PathLike, b: str | os.PathLike, out: str | os.PathLike, seed: int | None = None):
    """Make a listening test of the recordings that two folders have under the same names.

    Each pair is compared (CMOS, from -3 to 3), and each recording is rated alone (MOS, from 1 to 5), in an order of
    each listener's own and without a hint of where it comes from. Among them are hidden anchors: recordings with loud
    noise, alone and beside themselves.

    Args:
        a, b: folders of recordings, such as `audio/base` and `audio/model` of a judgement.
        out: a new or empty folder for

            - `page/`, to be put on any web space, or opened from a disk: `index.html` and `audio/`;
            - `key.json`, which says what is what, and isn't for the listeners;
            - `answers/`, for the files that they send; `analyze_listening` reads them.
        seed: of the hidden names; None takes chance.

    Returns:
        The content of `key.json`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folders share no names, or `out` has files in it.
    """
    a, b, out = Path(a), Path(b), Path(out)
    found = [_recordings(folder) for folder in (a, b)]
    names = sorted(found[0].keys() & found[1].keys())
    if not names:
        raise ValueError(f"{a} and {b} have no recordings of the same name; what is compared has one name in both.")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} has files in it; give a new folder, or delete it first.")
    alone = sum(len(each) for each in found) - 2 * len(names)
    if alone:
        warnings.warn(f"{alone} recordings are in one folder alone, and are left out.", stacklevel=2)
    chance = random.Random(seed)
    (out / "page" / "audio").mkdir(parents=True)
    (out / "answers").mkdir()
    items = _write_sounds(names, found, out / "page" / "audio", chance)
    chance.shuffle(items)
    key = {"test": _hidden(chance), "a": a.name, "b": b.name, "items": {item["id"]: item for item in items}}
    shown = {"id": key["test"], "items": [{"id": item["id"], "sounds": item["sounds"]} for item in items]}
    page = (Path(__file__).parent / "listening.html").read_text(encoding="utf-8")
    write_json(out / "key.json", key)
    write_text(out / "page" / "index.html", page.replace("/*TEST*/", json.dumps(shown)))
    return key


def _recordings(folder: Path) -> dict[str, Path]:
    """Return the recordings in a folder by their names without the extension."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give one with recordings.")
    return {file.stem: file for file in sorted(folder.iterdir()) if AUDIO_FILE.search(file.name)}


def _write_sounds(names: list[str], found: list[dict[str, Path]], folder: Path, chance: random.Random) -> list[dict]:
    """Write each recording under a hidden name, and return the items to be answered.

    An item has its "id", "kind" ("pair" or "opinion"), the recording's "name", hidden "sounds", their "seconds"
    together, and what each of the sounds is, as "sides": "a", "b", or "anchor".
    """
    items = []
    for number, name in enumerate(names):
        sounds = {side: load_audio(files[name]) for side, files in zip(SIDES, found, strict=True)}
        if number < ANCHORS:
            samples, rate = sounds["a"]
            sounds["anchor"] = _damage(samples, np.random.default_rng(chance.getrandbits(32))), rate
        hidden = {side: _hidden(chance) for side in sounds}
        for side, (samples, rate) in sounds.items():
            write_wav(folder / f"{hidden[side]}.wav", _level(samples), rate)
        groups = [SIDES, *((side,) for side in sounds)] + ([("a", "anchor")] if "anchor" in sounds else [])
        for group in groups:
            sides = chance.sample(group, len(group))
            items.append(
                {
                    "id": _hidden(chance),
                    "kind": "pair" if len(sides) == 2 else "opinion",
                    "name": name,
                    "sounds": [hidden[side] for side in sides],
                    "sides": sides,
                    "seconds": sum(len(sounds[side][0]) / sounds[side][1] for side in sides),
                }
            )
    return items


def _hidden(chance: random.Random) -> str:
    return f"{chance.getrandbits(48):012x}"


def _damage(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(len(samples)) * np.sqrt(np.mean(samples**2)) / 10 ** (ANCHOR_NOISE / 20)
    return (samples + noise).astype(np.float32)


def _level(samples: np.ndarray) -> np.ndarray:
    """Return samples at `LEVEL`, or as loud as they can be without clipping."""
    loudness, peak = np.sqrt(np.mean(samples.astype(np.float64) ** 2)), np.abs(samples).max()
    if not peak:
        return samples
    return (samples * min(10 ** (LEVEL / 20) / loudness, 0.99 / peak)).astype(np.float32)
