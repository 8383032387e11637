"""Report what a check found in a voice's recordings: the limits, the kinds of problems, and files of the results."""

import csv
import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from hfpipe.pipeline.files import atomic_write, write_text

from .. import check as whisper_check
from ..markdown import markdown_table
from ..report import write_json
from .table import VoiceRow, voice_row

MAX_SECONDS = 11.6  # XTTS: 255,995 samples at 22,050 Hz (coqui-tts, GPTArgs.max_wav_length)
MAX_CHARACTERS = 200  # XTTS: 200 tokens (GPTArgs.max_text_length), of at least one character each
MIN_SECONDS = 0.5  # coqui-tts, XTTSDataset.load_item
SILENCE = whisper_check.SILENCE
MAX_CLIPPED = 1e-3  # share of the samples; as for a reference voice in hfpipe
MAX_EDGE = 1.0  # s of silence at either end; coqui's own preparation (xtts_ft_demo, formatter.py) leaves 0.2
MAX_PAUSE = 2.0  # s; where a recording was put together, or the speaker hesitated
LOW_RATE = 22_050  # Hz that XTTS learns from
# Measured by benchmarks/voice_check.py, see docs/voice-data.md:
MIN_BACKGROUND = 2.75  # opinion score of what is heard besides the speech
MIN_OVERALL = 2.4  # opinion score of the whole
MIN_HALVES = 0.65  # cosine similarity of the voices of a recording's halves
MIN_VOICE = 0.75  # cosine similarity of a recording's voice to the speaker's other recordings
MAX_CER = 0.3  # character error rate of Whisper's transcript
MIN_LETTERS_PER_SECOND, MAX_LETTERS_PER_SECOND = 5.0, 25.0
WHISPERS_OWN = ("Whisper's own marks", "text too long", "silence", "too short", "too long", "contradicted")

DROPPED = {kind: what for kind, what in whisper_check.DROPPED.items() if kind not in WHISPERS_OWN} | {
    "no consent": "the table says that the speaker didn't agree",
    "text too long": f"over {MAX_CHARACTERS} characters when it is read aloud: split it",
    "annotation": "brackets or tags in the text, which nobody says",
    "too short": f"under {MIN_SECONDS} s",
    "too long": f"over {MAX_SECONDS} s, where XTTS cuts the audio but not the text: split it",
    "silence": f"nothing louder than {SILENCE:.0f} dBFS",
    "no speech": "nobody is heard: noise or music alone",
    "clipped": f"over {MAX_CLIPPED:.1%} of the samples lie flat against the peak: record at a lower level",
    "noise or music": f"DNSMOS's score of the background is under {MIN_BACKGROUND}",
    "poor sound": f"DNSMOS's overall score is under {MIN_OVERALL}: distorted, echoing, or compressed",
    "silence before": f"over {MAX_EDGE} s before the speech: trim it",
    "silence after": f"over {MAX_EDGE} s after the speech: trim it",
    "several speakers": f"the voices of its halves are unlike: their similarity is under {MIN_HALVES}",
    "another speaker": f"unlike the speaker's other recordings: the similarity is under {MIN_VOICE}",
    "faster than speech": f"over {MAX_LETTERS_PER_SECOND:.0f} letters per second: the audio is cut, or the text wrong",
    "slower than speech": f"under {MIN_LETTERS_PER_SECOND:.0f} letters per second: the text is cut, or wrong",
    "contradicted": f"Whisper hears something else: the character error rate is over {MAX_CER:.0%}",
    "end not said": "the last words of the text aren't heard: the audio is cut",
    "end not written": "more is heard after the text's last words: the text is cut",
}
NOTED = {
    kind: what for kind, what in whisper_check.NOTED.items() if kind not in ("clipped", "annotation", "low rate")
} | {
    "low rate": f"sampled below {LOW_RATE:,} Hz, which the voice will sound like",
    "cut": "starts or ends as loud as speech is, perhaps in the middle of a word",
    "long pause": f"over {MAX_PAUSE} s of silence within",
    "several countries": "the speaker has other countries in other rows",
}


@dataclasses.dataclass
class VoiceReport(whisper_check.Report):
    """The usable recordings of a table, and the problems of all of them."""

    DROPPED: ClassVar = DROPPED
    NOTED: ClassVar = NOTED

    @property
    def rows_kept(self) -> list[VoiceRow]:
        """Return the usable recordings, with their duration and digest."""
        return [voice_row(row) for row in self.kept]

    def as_dict(self) -> dict:
        """Return the report as JSON-serializable Python, with the usable rows; durations are in hours or seconds."""
        countries: dict[str, float] = defaultdict(float)
        for row in self.rows_kept:
            countries[row.country or "unknown"] += row.seconds / 3600
        kept = [
            {"line": row.line, "audio": row.name, "seconds": round(row.seconds, 3), "speaker": row.speaker}
            for row in self.kept
        ]
        hours = {name: round(value, 4) for name, value in sorted(countries.items())}
        return super().as_dict() | {"hours_per_country": hours, "kept_rows": kept}

    def markdown(self) -> str:
        """Return the report as Markdown: counts, hours by speaker and by country, and every problem with its row."""
        hours = [(name, f"{value:.2f}") for name, value in self.as_dict()["hours_per_country"].items()]
        lines = ["## Hours per country", "", *markdown_table(("country", "hours"), hours, right=("hours",)), ""]
        before, title, after = super().markdown().partition("## Problems by row")
        return before.rstrip() + "\n\n" + "\n".join(lines) + (f"\n{title}{after}" if title else "")


def write_report(path: Path, reports: Sequence[VoiceReport]) -> None:
    """Write reports to one file, as JSON if it ends in .json and as Markdown otherwise, whole or not at all."""
    if path.suffix == ".json":
        write_json(path, [report.as_dict() for report in reports])
    else:
        write_text(path, "\n".join(report.markdown() for report in reports))


def write_rows(path: Path, rows: Sequence[VoiceRow]) -> None:
    """Write rows as a table of audio,text,speaker,country, whole or not at all; paths are relative to its folder."""
    folder = path.resolve().parent
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("audio", "text", "speaker", "country"))
        for row in rows:
            audio = os.path.relpath(row.audio.resolve(), folder)
            writer.writerow((audio, row.text, row.speaker or "", row.country or ""))
