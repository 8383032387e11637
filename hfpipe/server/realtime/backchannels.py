"""Tell the small words by which a listener says "go on" from a turn of their own."""

import re

# Spanish, English, Portuguese, French, Italian and German, as Whisper writes them, without accents.
WORDS = frozenset(
    """
    aja aha ah eh mm mmm mhm hm hmm uhm uhum um uh huh aham si ya ok okay okey vale claro bueno bien exacto cierto
    entiendo entendido verdad dale listo eso asi perfecto
    yes yeah yep right sure great good see i got it
    sim ta certo isso entendi pois e claro
    oui ouais daccord voila bon
    certo esatto capito va bene gia
    ja genau gut na klar ach so
    """.split()
)
MAX_WORDS = 3


def is_backchannel(text: str) -> bool:
    """Return whether a text holds nothing but such words, three at most."""
    words = re.findall(r"\w+", _without_accents(text.lower()).translate({ord("'"): None, ord("’"): None}))
    return len(words) <= MAX_WORDS and all(word in WORDS for word in words)


def _without_accents(text: str) -> str:
    return text.translate(str.maketrans("áàâãäéèêëíìîïóòôõöúùûüç", "aaaaaeeeeiiiiooooouuuuc"))
