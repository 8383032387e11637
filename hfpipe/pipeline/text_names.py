"""Respell Mexican names whose "x" isn't /ks/, for a voice that reads letters by the rules of Spanish."""

import re

from .text_locale import base_language

# "x" is /x/ (the sound of "j") in these, as the Academias' Diccionario panhispánico de dudas has it ("x", 3).
AS_J = """México mexicano mexicana mexicanos mexicanas mexiquense mexiquenses mexicanismo mexicanismos mexicanidad
    Oaxaca oaxaqueño oaxaqueña oaxaqueños oaxaqueñas Xalapa xalapeño xalapeña xalapeños xalapeñas Texas texano texana
    texanos texanas Mexicali mexicalense mexicalenses Mexicaltzingo Xalisco Ximena Ximénez Ximeno Xavier Mexía
    Xicoténcatl Tlaxiaco Xalatlaco Xaltocan Xalostoc Xico"""
# "x" is /s/ in these.
AS_S = """Xochimilco xochimilca xochimilcas Xochitl Xóchitl Xochicalco Xochiquetzal Xochipilli Xochitepec Tlaxcala
    tlaxcalteca tlaxcaltecas Taxco taxqueño taxqueña taxqueños taxqueñas Texcoco texcocano texcocana texcocanos
    texcocanas Ixtapalapa Ixtapaluca Ixtlán Ixtepec Ixtlahuaca Ixtaccíhuatl Ixtapan Ixtapa Ixmiquilpan Xonacatlán
    Xilitla Tuxpan Tuxtepec Tuxtla Mixcoac Huixquilucan mixteco mixteca mixtecos mixtecas Nextlalpan Coixtlahuaca"""
# "x" is "sh" in these, mostly Mayan and Nahuatl words; espeak-ng's Spanish reads "sh" so.
AS_SH = """Xola Xcaret Xpujil Xcalak Uxmal Yaxchilán Xibalbá Xelajú Oxkutzcab Yaxcabá xoconostle xoconostles mixiote
    mixiotes xoloitzcuintle xoloitzcuintles xoloitzcuintli xolo xolos mexica mexicas"""
RESPELLED = {
    word.lower(): word.lower().replace("x", sound)
    for sound, words in {"j": AS_J, "s": AS_S, "sh": AS_SH}.items()
    for word in words.split()
}
WORD = re.compile(r"[^\W\d_]*[xX][^\W\d_]*")


def respell(text: str, language: str = "es") -> str:
    """Return Spanish text with Mexican names respelled as they are said: "Oaxaca" becomes "Oajaca".

    Only whole words of the lists above change, and keep their capitals. Text in other languages is returned as it is,
    as "Texas" and "Mexico" are no Spanish words in it.

    Args:
        text: text as `speakable` returns it.
        language: a BCP 47 tag.
    """
    if base_language(language) != "es":
        return text
    return WORD.sub(lambda match: _respelled(match[0]), text)


def _respelled(word: str) -> str:
    said = RESPELLED.get(word.lower())
    if said is None:
        return word
    if word.isupper():
        return said.upper()
    return said[0].upper() + said[1:] if word[0].isupper() else said
