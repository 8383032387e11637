"""Compare a Whisper with its export for faster-whisper: `python benchmarks/export.py MODEL --data DIR [--json FILE]`.

Both hear the same recordings greedily, in windows of 30 s and without timestamps; the word error rates are normalised.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # or finetune.py beside this file would be found as the package

import hfpipe  # noqa: E402, F401, I001  # before torch: it lets torch's waiting threads sleep
from measure import Row, report  # noqa: E402
from faster_whisper import WhisperModel  # noqa: E402
from rich.progress import track  # noqa: E402

from finetune.data import load, read_rows  # noqa: E402
from finetune.evaluate import check_whisper_rows, hear_rows  # noqa: E402
from finetune.export import export_ct2  # noqa: E402
from finetune.normalise import normaliser  # noqa: E402
from finetune.score import normalised_counts, total  # noqa: E402
from finetune.whisper import load_whisper, locate  # noqa: E402

LANGUAGE = "es"


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
    said = {"language": LANGUAGE, "beam_size": 1, "without_timestamps": True, "condition_on_previous_text": False}
    with tempfile.TemporaryDirectory() as folder:
        export_ct2(locate(options.model), Path(folder, "ct2"))
        exported = WhisperModel(str(Path(folder, "ct2")), device="cpu", compute_type=options.precision)
        theirs = [
            "".join(segment.text for segment in exported.transcribe(load(row), **said)[0])
            for row in track(rows, description="Hearing with the export")
        ]
    ours = hear_rows(whisper, processor, rows, LANGUAGE, full_window=True)
    rates = [total(normalised_counts(rows, heard, normaliser(LANGUAGE))).rate for heard in (ours, theirs)]
    report(
        "A Whisper and its export", [Row(f"WER against its export, {options.precision}", *rates, "%")], options.json
    )


if __name__ == "__main__":
    main()
