"""Benchmark a spoken answer against a cascade of stock components: python benchmarks/cascade.py [--json FILE]

The cascade consists of transformers' speech recognition and text-generation pipelines with default options in float32,
followed by `tts_to_file` of coqui-tts. Both sides transcribe the same question with the same Whisper, answer greedily
with the same LLM, and generate the same number of audio tokens with the same XTTS, of XTTS v2's size and with random
weights, in one of the checkpoint's built-in voices.
"""

import argparse
import tempfile
from pathlib import Path

import soundfile
import torch
from measure import Row, interleaved, median, report
from transformers import pipeline
from xtts import TOKENS, make_checkpoint

import hfpipe
from hfpipe.pipeline.audio import load_question
from hfpipe.pipeline.llm_answer import default_system_prompt
from hfpipe.pipeline.tts_xtts_checkpoint import CONFIG, COQUI_WEIGHTS, quietly

QUESTION = Path(__file__).parent.parent / "examples" / "pregunta.wav"
EXACT = {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
ANSWER_TOKENS = 24


def make_sequence(repo: Path, checkpoint: Path, out: Path):
    """Return a function that answers a question with the stock components, one after another."""
    from TTS.api import TTS

    asr = pipeline("automatic-speech-recognition", model=str(repo), dtype=torch.float32, device="cpu")
    llm = pipeline("text-generation", model=str(repo / "llm"), dtype=torch.float32, device="cpu")
    tts = TTS(model_path=str(checkpoint), config_path=str(checkpoint / CONFIG), progress_bar=False)

    def answer() -> str:
        samples = load_question(QUESTION)
        question = asr(samples, generate_kwargs={"task": "transcribe", "language": "es"})["text"]
        messages = [
            {"role": "system", "content": default_system_prompt("es")},
            {"role": "user", "content": question.strip()},
        ]
        answered = llm(messages, max_new_tokens=ANSWER_TOKENS, do_sample=False)[0]["generated_text"][-1]["content"]
        tts.tts_to_file(
            answered.strip(), speaker="Ana", language="es", file_path=str(out), split_sentences=False, **EXACT
        )
        return answered.strip()

    return answer


def main() -> None:
    """Run the benchmark, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="output file for the rows; a chart is written next to it")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    repo, checkpoint = Path(hfpipe.offline_repo()), make_checkpoint()
    assert (checkpoint / COQUI_WEIGHTS).is_file()
    with quietly(), tempfile.TemporaryDirectory() as scratch:
        theirs = make_sequence(repo, checkpoint, Path(scratch, "theirs.wav"))
        pipe = hfpipe.load(repo, tts=checkpoint, device="cpu")

        def ours() -> str:
            result = pipe(str(QUESTION), speaker="Ana", max_new_tokens=ANSWER_TOKENS, tts_kwargs=EXACT)
            soundfile.write(Path(scratch, "ours.wav"), result["audio"], result["sampling_rate"])
            return result["answer"]

        print("ours:", ours(), "| theirs:", theirs())
        seconds = interleaved({"ours": ours, "theirs": theirs}, arguments.repeats)
    name = "the whole answer against the plain sequence of stock parts"
    rows = [Row(name, median(seconds["ours"]), median(seconds["theirs"]), "s")]
    report("A spoken answer, against the plain sequence", rows, arguments.json)


if __name__ == "__main__":
    main()
