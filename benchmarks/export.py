"""Compare a Whisper with its export for faster-whisper: `python benchmarks/export.py MODEL --data DIR [--json FILE]`.

The word error rates are normalised, and compared twice: on the same features of 30 s windows, greedily and without
timestamps, which shows what the export itself changes; and each as it is by default, `finetune evaluate` in short
windows and faster-whisper's `transcribe` with its beam of 5, its timestamps and windows that it fills with zeros.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or finetune.py beside this file would be found as the package

import hfpipe  # noqa: E402, F401, I001  # before torch: it lets torch's waiting threads sleep
import measure  # noqa: E402
from ctranslate2 import StorageView  # noqa: E402
from faster_whisper import WhisperModel  # noqa: E402
from rich.progress import track  # noqa: E402

from finetune.data import Row, load, read_rows  # noqa: E402
from finetune.evaluate import check_whisper_rows, hear_rows  # noqa: E402
from finetune.export import export_ct2  # noqa: E402
from finetune.normalise import normaliser  # noqa: E402
from finetune.score import normalised_counts, total  # noqa: E402
from finetune.whisper import FULL_WINDOW, features_of, load_whisper, locate  # noqa: E402

LANGUAGE = "es"


def hear_the_same(exported: WhisperModel, processor, rows: list[Row]) -> list[str]:
    """Transcribes rows with the export from the features that the original gets, greedily, without timestamps."""
    prompt = processor.tokenizer.convert_tokens_to_ids(
        ["<|startoftranscript|>", f"<|{LANGUAGE}|>", "<|transcribe|>", "<|notimestamps|>"]
    )
    heard = []
    for row in track(rows, description="Hearing the same features"):
        features = StorageView.from_array(features_of(processor, [load(row)], FULL_WINDOW).numpy())
        tokens = exported.model.generate(features, [prompt], beam_size=1)[0].sequences_ids[0]
        heard.append(processor.tokenizer.decode(tokens, skip_special_tokens=True))
    return heard


def hear_by_default(exported: WhisperModel, rows: list[Row]) -> list[str]:
    """Transcribes rows as faster-whisper does where nothing but the language is set."""
    return [
        "".join(segment.text for segment in exported.transcribe(load(row), language=LANGUAGE)[0])
        for row in track(rows, description="Hearing by default")
    ]


def main() -> None:
    """Exports, hears with both, prints and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a Whisper: a folder, a Hub id, a size or offline")
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    parser.add_argument("--precision", default="float32", help="of faster-whisper: float32 or int8")
    parser.add_argument("--json", type=Path, help="where the rows go; a picture goes beside it")
    options = parser.parse_args()
    whisper, processor = load_whisper(options.model)
    table = options.data / "test.csv"
    rows = check_whisper_rows(read_rows(table), str(table), processor, LANGUAGE).kept

    def rate(heard: list[str]) -> float:
        return total(normalised_counts(rows, heard, normaliser(LANGUAGE))).rate

    with tempfile.TemporaryDirectory() as folder:
        export_ct2(locate(options.model), Path(folder, "ct2"))
        exported = WhisperModel(str(Path(folder, "ct2")), device="cpu", compute_type=options.precision)
        theirs = [rate(hear_the_same(exported, processor, rows)), rate(hear_by_default(exported, rows))]
    ours = [rate(hear_rows(whisper, processor, rows, LANGUAGE, full_window=full)) for full in (True, False)]
    ways = ("on the same features", "each as by default")
    measure.report(
        f"A Whisper and its export in {options.precision}",
        [measure.Row(f"WER, {way}", *pair, "%") for way, *pair in zip(ways, ours, theirs, strict=True)],
        options.json,
    )


if __name__ == "__main__":
    main()
