"""Judge the offline voice on two synthetic speakers: a stranger's voice, and the blend nearest to each speaker."""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # finetune is the package, and not the script beside this one

import hfpipe  # noqa: E402
from finetune.voice.judge import judge_voice  # noqa: E402
from hfpipe.pipeline.audio import write_wav  # noqa: E402

SENTENCES = (
    "Buenos días, ¿en qué puedo ayudarle hoy?",
    "El tren sale a las tres y media de la tarde.",
    "Mañana lloverá en el norte del país.",
    "La biblioteca abre de lunes a viernes por la mañana.",
    "Necesito reservar una mesa para cuatro personas.",
    "El precio es de mil quinientos pesos con impuestos.",
    "¿Me puede decir dónde queda la estación de autobuses?",
    "Ayer fuimos al mercado y compramos frutas y verduras.",
)
SPEAKERS = {"ana": {"af_heart": 0.6, "if_sara": 0.4}, "leo": {"am_michael": 0.6, "im_nicola": 0.4}}
STRANGER = "ef_dora"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, help="new folder for the report; by default it is only printed")
out = parser.parse_args().out

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary)
    tts = hfpipe.load_tts(f"{hfpipe.offline_repo()}/tts")
    with open(folder / "synthetic.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["audio", "text", "speaker", STRANGER])
        for name, blend in SPEAKERS.items():
            for number, text in enumerate(SENTENCES):
                files = f"{name}{number}.wav", f"{name}{number}.{STRANGER}.wav"
                write_wav(folder / files[0], tts(text, speaker=blend), tts.sampling_rate)
                write_wav(folder / files[1], tts(text, speaker=STRANGER), tts.sampling_rate)
                rows.writerow([files[0], text, name, files[1]])
    report = out or folder / "report"
    judge_voice(tts, folder / "synthetic.csv", report, base=f"column:{STRANGER}", whisper="offline", say=print)
    print((report / "judgement.md").read_text(encoding="utf-8"))
