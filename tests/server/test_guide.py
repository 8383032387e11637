"""What the guide shows works with the offline models."""

import asyncio
import contextlib
import re
import shutil

import pytest
from conftest import EXAMPLES
from test_docs import ROOT

from hfpipe.pipeline.audio import load_audio

from .serving import running


@pytest.mark.offline
@pytest.mark.slow
def test_the_guide_runs(offline_pipe, tmp_path):
    guide = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python \{\.notest\}\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 4
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    played = []
    names = {"play": played.append}
    with running(offline_pipe, tmp_path / "server") as server, contextlib.chdir(tmp_path):
        for snippet in snippets:
            exec(snippet.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"), names)
        asyncio.run(names["talk"]())
        with open("examples/pregunta.wav", "rb") as file:
            verbose = names["client"].audio.transcriptions.create(
                model="",
                file=file,
                response_format="verbose_json",
                timestamp_granularities=["word", "segment"],
            )
    assert "Francia" in names["heard"].text and "París" in names["answer"].choices[0].message.content
    assert 0.5 < sum(map(len, played)) / 2 / 24_000 < 60
    assert "Francia" in names["turn"]["input"] and "París" in names["turn"]["text"]
    for name in ("hola.wav", "respuesta.wav", "rosa.mp3"):
        samples, rate = load_audio(tmp_path / name)
        assert 0.5 < len(samples) / rate < 60
    assert verbose.language == "spanish" and "Francia" in verbose.text
    words = [word.word.strip(" ?.,¿") for word in verbose.words]
    assert "Francia" in words and all(word.start <= word.end for word in verbose.words)
    [segment] = verbose.segments
    assert segment.avg_logprob > -1 and segment.no_speech_prob < 0.5
