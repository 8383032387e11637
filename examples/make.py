"""Synthesize the two recordings of this folder: a question in Spanish, and a synthetic voice to clone.

Run once, where npm can reach its registry: python examples/make.py. The output is reproducible for the same weights.
"""

from pathlib import Path

from hfpipe.offline import offline_repo
from hfpipe.pipeline.audio import write_wav
from hfpipe.pipeline.tts_kokoro import Kokoro

HERE = Path(__file__).parent
QUESTION = "¿Cuál es la capital de Francia?"
BLEND = {"em_alex": 0.5, "im_nicola": 0.3, "am_puck": 0.2}  # a man who is nobody; the default voice is a woman
TEXT = (
    "Buenos días. Esta voz no es de nadie: la ha creado un programa para enseñar cómo se imita una voz. "
    "Por la tarde paseo por el parque y leo un libro junto al río. Después vuelvo a casa y preparo la cena."
)

if __name__ == "__main__":
    kokoro = Kokoro.from_pretrained(Path(offline_repo(print), "tts"))
    write_wav(HERE / "pregunta.wav", kokoro(QUESTION), kokoro.sampling_rate)
    write_wav(HERE / "voz.wav", kokoro(TEXT, speaker=BLEND), kokoro.sampling_rate)
