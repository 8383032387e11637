"""Download real Spanish speech from Debian and write it as a dataset: `python benchmarks/es_mx.py DIR`.

The recordings are the prompts of the Asterisk telephone exchange, spoken in Mexican Spanish by one professional voice
(asterisk-core-sounds 1.6.1, CC BY-SA 3.0, https://www.asterisk.org), at 16 kHz. DIR gets:

- `train.csv` and `test.csv`: columns `audio,sentence`, with no sentence in both;
- `english.csv`: a hundred English prompts of the same exchange, to measure forgetting;
- `long.csv`: the clips over 30 s, and test clips joined into recordings of about a minute, to measure whether long
  audio still works.
"""

import argparse
import csv
import gzip
import hashlib
import io
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # or finetune.py beside this file would shadow the package

from finetune.data import content  # noqa: E402
from hfpipe.pipeline.files import atomic_write  # noqa: E402

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
WINDOW = 30.0  # seconds; longer clips test long audio
LONG_SECONDS, PAUSE = 60.0, 0.5  # length of a joined recording, and of the silence between its clips
SEED = 0


def fetch(name: str, sha256: str) -> bytes:
    """Download a Debian package and verify its checksum; use apt if the pool doesn't answer.

    Raises:
        OSError: neither the pool nor apt has the package.
        ValueError: the checksum differs.
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
    """Return a Debian package's regular files by path: an ar archive with a tar archive in it (man 5 deb)."""
    position = len(b"!<arch>\n")
    while position < len(deb):
        header = deb[position : position + 60]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        position += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(deb[position : position + size])) as archive:
                return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        position += size + size % 2
    raise ValueError("the package has no data.tar: it is damaged. Download it again.")


def read_clips(files: dict[str, bytes], language: str) -> list[tuple[str, str, np.ndarray]]:
    """Return each transcript that has words with its recording: name, sentence, int16 samples at 16 kHz."""
    from G722 import G722

    text = next(data for path, data in files.items() if path.endswith(f"core-sounds-{language}.txt.gz"))
    clips = {}
    for line in gzip.decompress(text).decode("utf-8").splitlines():
        name, colon, sentence = (part.strip() for part in line.partition(":"))
        sound = files.get(f"./usr/share/asterisk/sounds/{VOICES[language]}/{name}.g722")
        sentence = re.sub(r"\[.*?\]|\(.*?\)|<.*?>", "", sentence).strip()  # annotations
        if line.startswith(";") or not colon or sound is None or not re.search(r"\w{2}", sentence):
            continue  # single letters are left out: their names are spoken
        samples = np.frombuffer(G722(RATE, BITS_PER_SECOND).decode(sound), np.int16)
        clips.setdefault(name, (name, sentence, samples))  # one is listed twice, then with another's text
    return list(clips.values())


def hold_out(clips: list) -> tuple[list, list]:
    """Split the clips in two so that no sentence is in both; the second part has up to `HELD_OUT` clips."""
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
    """Join clips, separated by silence, into recordings of about `LONG_SECONDS`."""
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
    """Write clips as wav files into a folder named after the set, and then its CSV."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for clip, sentence, samples in clips:
        path = f"{name}/{clip.replace('/', '_')}.wav"
        soundfile.write(folder / path, samples, RATE)
        rows.append((path, sentence))
    with atomic_write(folder / f"{name}.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("audio", "sentence"), *rows])
    minutes = sum(len(samples) for _, _, samples in clips) / RATE / 60
    print(f"{folder / name}.csv: {len(clips)} clips, {minutes:.1f} min")


def main() -> None:
    """Download, unpack, decode, split and write the clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="output folder for the recordings and CSV files")
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
