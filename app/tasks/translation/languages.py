"""Languages: their codes of two and three letters, and their names in English."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TABLE = """
af afr Afrikaans|am amh Amharic|ar ara Arabic|ar arb Arabic|as asm Assamese|az aze Azerbaijani|az azj Azerbaijani
be bel Belarusian|bg bul Bulgarian|bn ben Bengali|bo bod Tibetan|bs bos Bosnian|ca cat Catalan|cs ces Czech|cy cym Welsh
da dan Danish|de deu German|de ger German|el ell Greek|en eng English|eo epo Esperanto|es spa Spanish|et est Estonian
eu eus Basque|fa fas Persian|fa pes Persian|fi fin Finnish|fr fra French|fr fre French|ga gle Irish|gl glg Galician
gu guj Gujarati|ha hau Hausa|he heb Hebrew|hi hin Hindi|hr hrv Croatian|ht hat Haitian Creole|hu hun Hungarian
hy hye Armenian|id ind Indonesian|ig ibo Igbo|is isl Icelandic|it ita Italian|ja jpn Japanese|jv jav Javanese
ka kat Georgian|kk kaz Kazakh|km khm Khmer|kn kan Kannada|ko kor Korean|ky kir Kyrgyz|la lat Latin|lb ltz Luxembourgish
lo lao Lao|lt lit Lithuanian|lv lav Latvian|lv lvs Latvian|mg mlg Malagasy|mk mkd Macedonian|ml mal Malayalam
mn mon Mongolian|mn khk Mongolian|mr mar Marathi|ms msa Malay|ms zsm Malay|mt mlt Maltese|my mya Burmese
nb nob Norwegian Bokmål|ne nep Nepali|ne npi Nepali|nl nld Dutch|nn nno Norwegian Nynorsk|no nor Norwegian
oc oci Occitan|or ory Odia|pa pan Punjabi|pl pol Polish|ps pus Pashto|ps pbt Pashto|pt por Portuguese|ro ron Romanian
ru rus Russian|sd snd Sindhi|si sin Sinhala|sk slk Slovak|sl slv Slovenian|so som Somali|sq sqi Albanian|sq als Albanian
sr srp Serbian|su sun Sundanese|sv swe Swedish|sw swa Swahili|sw swh Swahili|ta tam Tamil|te tel Telugu|tg tgk Tajik
th tha Thai|tk tuk Turkmen|tl tgl Tagalog|tr tur Turkish|tt tat Tatar|ug uig Uyghur|uk ukr Ukrainian|ur urd Urdu
uz uzb Uzbek|uz uzn Uzbek|vi vie Vietnamese|xh xho Xhosa|yi yid Yiddish|yo yor Yoruba|yue yue Cantonese|zh zho Chinese
zh chi Chinese|zu zul Zulu
"""
_ROWS = [entry.split(" ", 2) for entry in _TABLE.replace("\n", "|").split("|") if entry]
_SHORT = {code: short for short, code, _ in _ROWS}
_NAMES = {short: name for short, _, name in _ROWS}
_PART = re.compile(r"[A-Za-z]+")


def base_of(code: str) -> str:
    """The language of a code, in two letters where it has a code of two: `de` for `deu_Latn`, `de-AT` and `de_DE`."""
    first = _PART.search(code)
    language = first.group().lower() if first else ""
    return _SHORT.get(language, language)


def name_of(code: str) -> str:
    """In English; of a language that is not in the table, its code."""
    return _NAMES.get(base_of(code), code)


def same_language(code: str, codes: Sequence[str]) -> str | None:
    """The model's own code for a language: the same, the same but for case and signs, or the first of that language."""
    for key in (str, _plain):
        for own in codes:
            if key(own) == key(code):
                return own
    if len(_PART.findall(code)) != 1:  # `zh-TW` is not whatever Chinese there is
        return None
    return next((own for own in codes if base_of(own) == base_of(code)), None)


def _plain(code: str) -> str:
    return "".join(_PART.findall(code)).lower()
