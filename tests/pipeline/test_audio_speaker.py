"""Speaker embeddings are resemblyzer's own."""

import numpy as np
import pytest
from conftest import EXAMPLES

from hfpipe.pipeline.audio import load_audio
from hfpipe.pipeline.audio_speaker import embed_speaker


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 8_000, 25_599, 25_600, 25_601, 90_000, None])
def test_embeddings_equal_those_of_resemblyzer(samples):
    from resemblyzer import VoiceEncoder

    wave = load_audio(str(EXAMPLES / "voz.wav"), 16_000)[0][10_000:][:samples]
    scaled = wave * 10 ** (-30 / 20) / np.sqrt(np.mean(wave.astype(np.float64) ** 2))
    expected = VoiceEncoder("cpu", verbose=False).embed_utterance(scaled.astype(np.float32))
    np.testing.assert_allclose(embed_speaker([(wave, 16_000)]), expected, atol=2e-5)


@pytest.mark.slow
def test_several_recordings_of_a_speaker_count_alike():
    wave = load_audio(str(EXAMPLES / "voz.wav"), 16_000)[0]
    parts = [(wave[:80_000], 16_000), (wave[80_000:], 16_000)]
    mean = np.mean([embed_speaker([part]) for part in parts], axis=0)
    np.testing.assert_allclose(embed_speaker(parts), mean / np.linalg.norm(mean), atol=1e-6)
