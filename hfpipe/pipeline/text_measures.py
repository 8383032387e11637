"""Write measurements out in words, in Spanish and English: "5 km", "30ºC", "120 km/h", "3×2 m"."""

import functools
import re

from babel.units import format_unit

from .text_locale import base_language, cldr_locale
from .text_numbers import BLANK, count, number_pattern

UNITS = {  # unit symbol: CLDR unit identifier
    "km/h": "speed-kilometer-per-hour", "kph": "speed-kilometer-per-hour", "m/s": "speed-meter-per-second",
    "m/s²": "acceleration-meter-per-square-second", "m/s2": "acceleration-meter-per-square-second",
    "mph": "speed-mile-per-hour", "km²": "area-square-kilometer", "m²": "area-square-meter",
    "cm²": "area-square-centimeter", "km2": "area-square-kilometer", "m2": "area-square-meter",
    "cm2": "area-square-centimeter", "ha": "area-hectare", "m³": "volume-cubic-meter", "m3": "volume-cubic-meter",
    "cm³": "volume-cubic-centimeter", "cm3": "volume-cubic-centimeter", "cc": "volume-cubic-centimeter",
    "km³": "volume-cubic-kilometer", "km": "length-kilometer", "m": "length-meter", "dm": "length-decimeter",
    "cm": "length-centimeter", "mm": "length-millimeter", "µm": "length-micrometer", "μm": "length-micrometer",
    "nm": "length-nanometer", "ft": "length-foot", "mi": "length-mile", "yd": "length-yard", "kg": "mass-kilogram",
    "g": "mass-gram", "gr": "mass-gram", "mg": "mass-milligram", "µg": "mass-microgram", "μg": "mass-microgram",
    "mcg": "mass-microgram", "t": "mass-tonne", "lb": "mass-pound", "lbs": "mass-pound", "oz": "mass-ounce",
    "l": "volume-liter", "L": "volume-liter", "dl": "volume-deciliter", "cl": "volume-centiliter",
    "hl": "volume-hectoliter", "ml": "volume-milliliter", "mL": "volume-milliliter", "gal": "volume-gallon",
    "°C": "temperature-celsius", "ºC": "temperature-celsius", "℃": "temperature-celsius",
    "°F": "temperature-fahrenheit", "ºF": "temperature-fahrenheit", "℉": "temperature-fahrenheit",
    "°": "angle-degree", "%": "concentr-percent", "‰": "concentr-permille", "ppm": "concentr-permillion",
    "kWh": "energy-kilowatt-hour", "kcal": "energy-kilocalorie", "cal": "energy-calorie",
    "kJ": "energy-kilojoule", "J": "energy-joule", "W": "power-watt", "kW": "power-kilowatt", "MW": "power-megawatt",
    "GW": "power-gigawatt", "hp": "power-horsepower", "V": "electric-volt", "mA": "electric-milliampere",
    "\u2126": "electric-ohm", "\u03a9": "electric-ohm", "Hz": "frequency-hertz", "kHz": "frequency-kilohertz",
    "MHz": "frequency-megahertz", "GHz": "frequency-gigahertz", "Pa": "pressure-pascal", "kPa": "pressure-kilopascal",
    "hPa": "pressure-hectopascal", "atm": "pressure-atmosphere", "mmHg": "pressure-millimeter-ofhg",
    "KB": "digital-kilobyte", "kB": "digital-kilobyte", "MB": "digital-megabyte", "GB": "digital-gigabyte",
    "TB": "digital-terabyte", "PB": "digital-petabyte", "Mb": "digital-megabit", "Gb": "digital-gigabit",
    "px": "graphics-pixel", "Mpx": "graphics-megapixel", "MP": "graphics-megapixel", "dpi": "graphics-dot-per-inch",
    "ppp": "graphics-dot-per-inch", "ppi": "graphics-pixel-per-inch", "lm": "light-lumen", "lx": "light-lux",
    "h": "duration-hour", "hr": "duration-hour", "hrs": "duration-hour", "min": "duration-minute",
    "mins": "duration-minute", "s": "duration-second", "seg": "duration-second", "ms": "duration-millisecond",
    "kms": "length-kilometer", "mts": "length-meter", "cms": "length-centimeter", "kgs": "mass-kilogram",
    "grs": "mass-gram", "lts": "volume-liter",
}  # fmt: skip
UNITS |= {sign.lower(): name for sign, name in UNITS.items() if sign.lower() not in UNITS and len(sign) > 1}
OTHER_UNITS = {  # which CLDR doesn't name: singular and plural
    "es": {"dB": ("decibelio", "decibelios"), "Mbps": ("megabit por segundo", "megabits por segundo"),
           "Gbps": ("gigabit por segundo", "gigabits por segundo"),
           "kbps": ("kilobit por segundo", "kilobits por segundo"),
           "rpm": ("revolución por minuto", "revoluciones por minuto"),
           "fps": ("fotograma por segundo", "fotogramas por segundo"), "lpm": ("latido por minuto",
           "latidos por minuto"), "mAh": ("miliamperio hora", "miliamperios hora"), "Wh": ("vatio hora",
           "vatios hora"), "MWh": ("megavatio hora", "megavatios hora"), "GWh": ("gigavatio hora",
           "gigavatios hora"), "TWh": ("teravatio hora", "teravatios hora"), "hab": ("habitante", "habitantes"),
           "cts": ("centavo", "centavos"), "ctvs": ("centavo", "centavos"),
           "uds": ("unidad", "unidades"), "ud": ("unidad", "unidades"), "hs": ("hora", "horas"),
           "kΩ": ("kiloohmio", "kiloohmios"), "MΩ": ("megaohmio", "megaohmios"), "KiB": ("kibibyte", "kibibytes"),
           "MiB": ("mebibyte", "mebibytes"), "GiB": ("gibibyte", "gibibytes"), "TiB": ("tebibyte", "tebibytes")},
    "en": {"dB": ("decibel", "decibels"), "Mbps": ("megabit per second", "megabits per second"),
           "Gbps": ("gigabit per second", "gigabits per second"),
           "kbps": ("kilobit per second", "kilobits per second"),
           "rpm": ("revolution per minute", "revolutions per minute"),
           "fps": ("frame per second", "frames per second"), "bpm": ("beat per minute", "beats per minute"),
           "mAh": ("milliampere hour", "milliampere hours"), "Wh": ("watt hour", "watt hours"),
           "MWh": ("megawatt hour", "megawatt hours"), "GWh": ("gigawatt hour", "gigawatt hours"),
           "TWh": ("terawatt hour", "terawatt hours"), "kΩ": ("kilohm", "kilohms"), "MΩ": ("megohm", "megohms"),
           "KiB": ("kibibyte", "kibibytes"), "MiB": ("mebibyte", "mebibytes"), "GiB": ("gibibyte", "gibibytes"),
           "TiB": ("tebibyte", "tebibytes")},
}  # fmt: skip
DENOMINATORS = {  # as people say them after "por"
    "es": {"kg": "kilo", "d": "día", "año": "año"},
    "en": {"kg": "kilo", "yr": "year"},
}
COMPASS = {
    "es": {"N": "norte", "S": "sur", "E": "este", "O": "oeste", "W": "oeste"},
    "en": {"N": "north", "S": "south", "E": "east", "W": "west"},
}
DOUBLE_PRIMES = '″"'
SCALES = {"C": "Celsius", "F": "Fahrenheit"}
BARE = r"\b(por|per|cada|each) (kg|km²?|cm²?|mm|m[²³]|ml|mg|kWh|GB|MB|TB)(?!\w)"  # "$5 por kg"
FEET = {"es": ("pies", "pulgadas"), "en": ("feet", "inches")}
PRIMES = {"es": ("grados", "minutos", "segundos"), "en": ("degrees", "minutes", "seconds")}


def read_measures(text: str, language: str) -> str:
    """Write out numbers with units: "5 km", "20 °C", "30ºC", "50 %", "120 km/h", "50 mg/día"."""
    base, number = base_language(language), number_pattern(language)
    text = _read_feet(_read_coordinates(text, language), base)
    text = re.sub(rf"(?<![\w.,])({number}){BLANK}K\b(?!-)", r"\1 kelvins", text)  # "10K" is a scale
    text = re.sub(rf"(?<=\d)({BLANK}?)[º°]{BLANK}?([CF])\b", r"\1°\2", text)
    pattern = rf"(?<![\w])({number}){BLANK}?({signs_of_units(base)})((?:/(?:100{BLANK}?)?[^\W\d_]+[²³]?)+)?(?![\w/])"

    def say(match: re.Match) -> str:
        per = "".join(f"{say_per(each, language)} " for each in (match[3] or "").split("/") if each)
        return count(match[1], unit_names(match[2], base), language) + per

    text = re.sub(pattern, say, text)
    compound = "|".join(sorted((sign for sign in UNITS if "/" in sign), key=len, reverse=True))
    text = re.sub(rf"(?<![\w/])({compound})(?![\w/])", lambda match: unit_names(match[0], base)[1], text)
    text = re.sub(BARE, lambda match: f"{match[1]} {unit_names(match[2], base)[0]}", text)
    text = re.sub(r"\b(grados|degrees) ([CF])\b", lambda match: f"{match[1]} {SCALES[match[2]]}", text)
    return re.sub(
        rf"(?<![\d_])(\b\w+\b)/({signs_of_units(base)})(?![\w/])", functools.partial(_rate, language=language), text
    )


def _rate(match: re.Match, language: str) -> str:
    """Read a rate without a number, "km/h" or "habitantes/km²", but leave "A/V" and "y/o"."""
    base, unit = base_language(language), match[1]
    if unit in UNITS and (len(match[0]) > 3 or match[0] == "m/s"):
        return f"{unit_names(unit, base)[1]} {say_per(match[2], language)}"
    return f"{unit} {say_per(match[2], language)}" if len(unit) > 2 and len(match[2]) > 1 else match[0]


def say_per(unit: str, language: str) -> str:
    """Return the denominator of a rate in words: "por kilo" for "kg", "por 100 gramos" for "100 g"."""
    base, unit = base_language(language), unit.strip()
    word = "por" if base == "es" else "per"
    hundred = re.match(rf"100{BLANK}?(?=\D)", unit)
    if hundred:
        return f"{word} 100 {unit_names(unit[hundred.end() :], base)[1]}"
    return f"{word} {DENOMINATORS[base].get(unit) or unit_names(unit, base)[0]}"


@functools.cache
def unit_names(sign: str, base: str) -> tuple[str, str]:
    """Return the singular and plural of a unit; a sign that isn't known is returned as it is."""
    if sign in OTHER_UNITS[base]:
        return OTHER_UNITS[base][sign]
    if sign not in UNITS:
        return sign, sign
    one, several = (format_unit(number, UNITS[sign], locale=cldr_locale(base)) for number in (1, 2))
    return one.removeprefix("1").strip(), several.removeprefix("2").strip()


@functools.cache
def signs_of_units(base: str) -> str:
    """Return a regular expression of the unit symbols, longest first."""
    return "|".join(sorted(map(re.escape, [*UNITS, *OTHER_UNITS[base]]), key=len, reverse=True))


def _read_feet(text: str, base: str) -> str:
    """Write out feet, inches and minutes: "6′2″", "55\"", "45′". A straight mark that closes a quotation stays."""
    feet, inches = FEET[base]
    minutes = PRIMES[base][1] if base == "es" else feet
    text = re.sub(rf"(?<![\w.,])(\d){BLANK}?[′'’]{BLANK}?(\d{{1,2}}){BLANK}?[″\"”]", rf"\1 {feet} \2 {inches}", text)

    def say(match: re.Match) -> str:
        is_quote = match[2] in "\"'" and match.string[: match.start()].count(match[2]) % 2
        return match[0] if is_quote else f"{match[1]} {inches if match[2] in DOUBLE_PRIMES else minutes}"

    return re.sub(r"(?<![\w.,])(\d{1,3}(?:[.,]\d)?)([″\"′'])(?!\w)", say, text)


def _read_coordinates(text: str, language: str) -> str:
    """Write out angles with minutes and points of the compass: "19°25′42″ N", "30° N"."""
    base = base_language(language)
    degrees, minutes, seconds = PRIMES[base]
    text = re.sub(
        rf"(\d+){BLANK}?[°º]{BLANK}?(\d+){BLANK}?[′'’](?:{BLANK}?(\d+(?:[.,]\d+)?){BLANK}?[″\"”])?",
        lambda match: f"{match[1]}° {match[2]} {minutes}" + (f" {match[3]} {seconds}" if match[3] else ""),
        text,
    )
    compass = COMPASS[base]
    return re.sub(
        rf"((?:[°º]|\b(?:{minutes}|{seconds}))){BLANK}?([{''.join(compass)}])\b(?!\.?\w)",
        lambda match: f"{match[1].replace('º', '°')} {compass[match[2]]}",
        text,
    )
