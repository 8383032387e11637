"""Compare a Whisper with its export for faster-whisper: `python benchmarks/export.py MODEL --data DIR [--json FILE]`.

The normalized word error rates are compared twice: on the same features of 30 s windows with greedy decoding and no
timestamps, which isolates the export; and with each one's defaults, `finetune evaluate` in short windows, and
faster-whisper's `transcribe` with 5 beams, timestamps and zero-padded windows.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or finetune.py beside this file would shadow the package

import hfpipe  # noqa: E402, F401, I001  # before torch: it makes idle threads sleep
import measure  # noqa: E402
from ctranslate2 import StorageView  # noqa: E402
from faster_whisper import WhisperModel  # noqa: E402
from rich.progress import track  # noqa: E402

from finetune.data import Row, load, read_rows  # noqa: E402
from finetune.evaluate import check_whisper_rows, transcribe_rows  # noqa: E402
from finetune.export import export_ct2  # noqa: E402
from finetune.normalize import normalizer  # noqa: E402
from finetune.score import normalized_counts, total  # noqa: E402
from finetune.whisper import FULL_WINDOW, compute_features, load_whisper, locate  # noqa: E402

LANGUAGE = "es"


def transcribe_same_features(exported: WhisperModel, processor, rows: list[Row]) -> list[str]:
    """Transcribe rows with the export from the original's features, greedily and without timestamps."""
    prompt = processor.tokenizer.convert_tokens_to_ids(
        ["<|startoftranscript|>", f"<|{LANGUAGE}|>", "<|transcribe|>", "<|notimestamps|>"]
    )
    transcripts = []
    for row in track(rows, description="Transcribing the same features"):
        features = StorageView.from_array(compute_features(processor, [load(row)], FULL_WINDOW).numpy())
        tokens = exported.model.generate(features, [prompt], beam_size=1)[0].sequences_ids[0]
        transcripts.append(processor.tokenizer.decode(tokens, skip_special_tokens=True))
    return transcripts


def transcribe_by_default(exported: WhisperModel, rows: list[Row]) -> list[str]:
    """Transcribe rows with faster-whisper's defaults and the language."""
    return [
        "".join(segment.text for segment in exported.transcribe(load(row), language=LANGUAGE)[0])
        for row in track(rows, description="Transcribing by default")
    ]


def main() -> None:
    """Export, transcribe with both, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a Whisper: a folder, a Hub id, a size or offline")
    parser.add_argument("--data", type=Path, required=True, help="the folder that benchmarks/es_mx.py wrote")
    parser.add_argument("--precision", default="float32", help="compute type of faster-whisper: float32 or int8")
    parser.add_argument("--json", type=Path, help="file for the results; a plot is written next to it")
    options = parser.parse_args()
    whisper, processor = load_whisper(options.model)
    table = options.data / "test.csv"
    rows = check_whisper_rows(read_rows(table), str(table), processor, LANGUAGE).kept

    def rate(transcripts: list[str]) -> float:
        return total(normalized_counts(rows, transcripts, normalizer(LANGUAGE))).rate

    with tempfile.TemporaryDirectory() as folder:
        export_ct2(locate(options.model), Path(folder, "ct2"))
        exported = WhisperModel(str(Path(folder, "ct2")), device="cpu", compute_type=options.precision)
        same_features = transcribe_same_features(exported, processor, rows)
        theirs = [rate(same_features), rate(transcribe_by_default(exported, rows))]
    ours = [rate(transcribe_rows(whisper, processor, rows, LANGUAGE, full_window=full)) for full in (True, False)]
    settings = ("same features", "default settings")
    measure.report(
        f"A Whisper and its export in {options.precision}",
        [measure.Row(f"WER, {setting}", *pair, "%") for setting, *pair in zip(settings, ours, theirs, strict=True)],
        options.json,
    )


if __name__ == "__main__":
    main()
