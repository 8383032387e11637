"""Measure the voices of the offline repo: how well each is understood, how near a blend comes to a voice, and speed.

    python benchmarks/voices.py            # word errors and seconds per sentence, by voice and language
    python benchmarks/voices.py --blends   # similarity of the nearest blend, of 5 voices and of 54
    python benchmarks/voices.py --speed    # real-time factor, against the model as published

Ten sentences per language are spoken and read back by Whisper base.
"""

import argparse
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import jiwer
from measure import Row, interleaved, machine, report
from rich.console import Console
from rich.table import Table

import hfpipe
from hfpipe.offline.sources import KOKORO, read_source
from hfpipe.pipeline.asr_whisper import transcribe
from hfpipe.pipeline.audio import resample
from hfpipe.pipeline.audio_speaker import similarity
from hfpipe.pipeline.tts_kokoro import MODEL, Kokoro

SENTENCES = {
    "es": (
        "Mañana por la mañana iremos al mercado a comprar fruta y verdura.",
        "El tren que va a Sevilla sale con mucho retraso.",
        "Mi hermana trabaja en un hospital cerca de la playa.",
        "¿Puedes decirme dónde está la farmacia más cercana?",
        "La capital de Francia es París, una ciudad muy conocida.",
        "Los niños juegan en el parque mientras sus padres conversan.",
        "Ayer llovió toda la noche y las calles amanecieron mojadas.",
        "Me gusta leer novelas de aventuras antes de dormir.",
        "El cielo es azul porque el aire dispersa la luz del sol.",
        "Necesitamos más tiempo para terminar este trabajo tan difícil.",
    ),
    "en": (
        "Tomorrow morning we will go to the market to buy fruit and vegetables.",
        "The train to London is leaving very late today.",
        "My sister works in a hospital close to the beach.",
        "Can you tell me where the nearest pharmacy is?",
        "The capital of France is Paris, a very famous city.",
        "The children are playing in the park while their parents talk.",
        "It rained all night and the streets were wet this morning.",
        "I like to read adventure stories before I go to sleep.",
        "The sky is blue because the air scatters the light of the sun.",
        "We need more time to finish this difficult work.",
    ),
    "fr": (
        "Demain matin nous irons au marché pour acheter des fruits et des légumes.",
        "Le train pour Paris part avec beaucoup de retard.",
        "Ma sœur travaille dans un hôpital près de la plage.",
        "Pouvez-vous me dire où se trouve la pharmacie la plus proche ?",
        "La capitale de la France est Paris, une ville très connue.",
        "Les enfants jouent dans le parc pendant que leurs parents discutent.",
        "Il a plu toute la nuit et les rues sont mouillées ce matin.",
        "J'aime lire des romans d'aventures avant de dormir.",
        "Le ciel est bleu parce que l'air disperse la lumière du soleil.",
        "Nous avons besoin de plus de temps pour finir ce travail difficile.",
    ),
    "it": (
        "Domani mattina andremo al mercato a comprare frutta e verdura.",
        "Il treno per Roma parte con molto ritardo.",
        "Mia sorella lavora in un ospedale vicino alla spiaggia.",
        "Puoi dirmi dove si trova la farmacia più vicina?",
        "La capitale della Francia è Parigi, una città molto famosa.",
        "I bambini giocano nel parco mentre i genitori parlano.",
        "Ieri ha piovuto tutta la notte e le strade erano bagnate.",
        "Mi piace leggere romanzi di avventura prima di dormire.",
        "Il cielo è blu perché l'aria diffonde la luce del sole.",
        "Abbiamo bisogno di più tempo per finire questo lavoro difficile.",
    ),
    "pt": (
        "Amanhã de manhã vamos ao mercado comprar frutas e verduras.",
        "O trem para São Paulo sai com muito atraso.",
        "Minha irmã trabalha em um hospital perto da praia.",
        "Você pode me dizer onde fica a farmácia mais próxima?",
        "A capital da França é Paris, uma cidade muito conhecida.",
        "As crianças brincam no parque enquanto os pais conversam.",
        "Ontem choveu a noite toda e as ruas ficaram molhadas.",
        "Eu gosto de ler livros de aventura antes de dormir.",
        "O céu é azul porque o ar espalha a luz do sol.",
        "Precisamos de mais tempo para terminar este trabalho difícil.",
    ),
}
VOICES = {  # the language's own (six of the 28 English ones), jm_kumo, the best of PyPI's five, and for Spanish others
    "es": ("ef_dora", "em_alex", "em_santa", "jm_kumo", "pf_dora", "pm_alex", "if_sara", "im_nicola", "af_heart"),
    "en": ("af_heart", "af_bella", "am_fenrir", "am_michael", "bf_emma", "bm_george", "jm_kumo"),
    "fr": ("ff_siwis", "jm_kumo"),
    "it": ("if_sara", "im_nicola", "jm_kumo"),
    "pt": ("pf_dora", "pm_alex", "pm_santa", "jm_kumo"),
}
PYPI = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
SPEAKERS = (  # to imitate without their own tables
    *("ef_dora", "em_alex", "em_santa", "af_bella", "af_nicole", "am_adam", "am_puck", "bf_emma", "bm_george"),
    *("ff_siwis", "hf_alpha", "hm_psi", "if_sara", "im_nicola", "zf_xiaobei", "zm_yunxi"),
)
REFERENCE = (
    "Buenos días. Esta voz no es de nadie: la ha creado un programa para enseñar cómo se imita una voz. "
    "Por la tarde paseo por el parque y leo un libro junto al río."
)
TEST = "Hoy hace un día muy bonito para salir."
EXAMPLE = Path(__file__).parents[1] / "examples" / "voz.wav"


def words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def compare_voices(kokoro: Kokoro, asr, languages: list[str]) -> Table:
    """Speak the sentences of each language in its voices, read them back, and return a table of the word errors."""
    table = Table(title="Voices, read back by Whisper base")
    for heading in ("language", "voice", "WER", "seconds a sentence", "RTF"):
        table.add_column(heading, justify="left" if heading in ("language", "voice") else "right")
    for language in languages:
        rows = []
        for name in [voice for voice in VOICES[language] if voice in kokoro.voices]:
            seconds, waves = [], []
            for sentence in SENTENCES[language]:
                start = time.perf_counter()
                waves.append(kokoro(sentence, language=language, speaker=name))
                seconds.append(time.perf_counter() - start)
            waves_16k = [resample(wave, kokoro.sampling_rate, 16_000) for wave in waves]
            heard = [transcribe(asr, [wave], language)[0][0] for wave in waves_16k]
            wer = jiwer.wer([words(each) for each in SENTENCES[language]], [words(each) for each in heard])
            spoken = sum(map(len, waves)) / kokoro.sampling_rate
            rows.append((wer, name, mean(seconds), sum(seconds) / spoken))
        for wer, name, pace, factor in sorted(rows):
            mark = " (default)" if name == kokoro.default_speaker(language) else ""
            table.add_row(language, name + mark, f"{wer:.1%}", f"{pace:.2f}", f"{factor:.2f}")
    return table


def compare_blends(kokoro: Kokoro) -> Table:
    """Imitate speakers whose style tables are left out of the search, among PyPI's 5 voices and among the 54.

    Each speaks a reference of 12 s; the similarity is that of another sentence, spoken by the blend. Tables of one
    speaker in several languages, such as ef_dora and pf_dora, are left out together. The first reference is timed on
    its own, with the imports that it needs.
    """
    start = time.perf_counter()
    kokoro.find_voice(EXAMPLE)
    table = Table(
        title="Similarity of the nearest blend to a speaker who isn't among the voices",
        caption=f"the first reference of a process took {time.perf_counter() - start:.1f} s",
    )
    for heading in ("speaker", "5 voices", "54 less the speaker's", "the speaker's own voice"):
        table.add_column(heading, justify="left" if heading == "speaker" else "right")
    rows = []
    for speaker in SPEAKERS:
        reference = {"array": kokoro(REFERENCE, speaker=speaker), "sampling_rate": kokoro.sampling_rate}
        others = [name for name in kokoro.voices if name.split("_")[1] != speaker.split("_")[1]]
        blends = []
        for names in (PYPI, others):
            voices, embeddings = ({name: each[name] for name in names} for each in (kokoro.voices, kokoro.embeddings))
            blends.append(Kokoro(kokoro.folder, kokoro.config, voices, embeddings).find_voice(reference))
        tests = [kokoro(TEST, speaker=voice) for voice in (*blends, speaker)]
        rows.append([similarity(reference, reference | {"array": test}) for test in tests])
        table.add_row(speaker, *(f"{each:.2f}" for each in rows[-1]))
    table.add_row("mean", *(f"{mean(each):.3f}" for each in zip(*rows, strict=True)))
    return table


def compare_speed(kokoro: Kokoro, repeats: int) -> list[Row]:
    """Time the model as published, with its convolutions of uint8, against the one that `offline_repo` makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(kokoro.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MODEL))
        Path(folder, MODEL).write_bytes(b"".join(map(read_source, KOKORO)))
        published = Kokoro.from_pretrained(folder)
        sentences = SENTENCES["es"][:3]
        voice = kokoro.default_speaker("es")
        seconds = sum(len(kokoro(sentence, speaker=voice)) for sentence in sentences) / kokoro.sampling_rate
        timed = interleaved(
            {
                name: lambda part=part: [part(sentence, speaker=voice) for sentence in sentences]
                for name, part in (("ours", kokoro), ("published", published))
            },
            repeats,
        )
    ours, peer = (median(timed[name]) / seconds for name in ("ours", "published"))
    return [Row("real-time factor of three sentences", ours, peer, "")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="+", choices=SENTENCES, default=list(SENTENCES))
    parser.add_argument("--blends", action="store_true", help="similarity of the nearest blend instead")
    parser.add_argument("--speed", action="store_true", help="real-time factor instead")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    folder = hfpipe.offline_repo(print)
    part = Kokoro.from_pretrained(f"{folder}/tts")
    if arguments.speed:
        report("Kokoro, against the int8 model as published", compare_speed(part, arguments.repeats))
    elif arguments.blends:
        with tempfile.TemporaryDirectory() as cache:  # no reference has been searched for
            os.environ["HFPIPE_CACHE"] = cache
            Console(width=110).print(compare_blends(part))
    else:
        Console(width=110).print(compare_voices(part, hfpipe.load_asr(folder), arguments.languages))
    print(machine())
