"""Which encoding bytes have that are no UTF-8; the one door to `charset-normalizer`.

Of texts in the Latin alphabet it often confuses the code pages of Western, Central and Northern Europe, which differ in a few
letters. These are told apart here, by the letters that each language has; all other scripts are left to it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping

from app.core.errors import InvalidSettings

BYTE_ORDER_MARKS: Mapping[bytes, str] = {  # UTF-32's before UTF-16's, whose bytes it begins with
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
HEAD_BYTES = 4_096
_BLANKS = "\t\r\n\f\ufeff\xa0\u2028\u202f\u3000"
_WESTERN = ("cp1252", "iso8859_15", "mac_roman", "cp850")
_CENTRAL = ("cp1250", "iso8859_2")
_LANGUAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("äöüßé", _WESTERN),  # German; where two fit equally well, the first in this list
    ("éèêëàâçôîïùûüœæÿ", _WESTERN),  # French
    ("áéíóúüñ¿¡ªº", _WESTERN),  # Spanish
    ("áâãàçéêíóôõúü", _WESTERN),  # Portuguese
    ("àèéìíòóùú", _WESTERN),  # Italian
    ("åäöæøé", _WESTERN),  # Danish, Finnish, Norwegian, Swedish
    ("áðéíóúýþæö", _WESTERN),  # Icelandic
    ("éëïöüèê", _WESTERN),  # Dutch
    ("ąćęłńóśźż", _CENTRAL),  # Polish
    ("áäčďéěíĺľňóôŕřšťúůýž", _CENTRAL),  # Czech, Slovak
    ("áéíóöőúüű", _CENTRAL),  # Hungarian
    ("čćđšž", _CENTRAL),  # Croatian, Slovene
    ("ăâîşţșț", _CENTRAL),  # Romanian
    ("çğıöşüâîûİ", ("cp1254",)),  # Turkish
    ("ąčęėįšųūžāēģīķļņõäöü", ("cp1257",)),  # Estonian, Latvian, Lithuanian
)
_SIGNS = "\N{NO-BREAK SPACE}–—‘’‚“”„†•…‰‹›€™£§©«»®°·´²³½"
_WITHIN_WORDS = "’´·–—"
_OTHER_SCRIPTS = (
    "cp1251", "koi8_r", "cp866", "iso8859_5", "cp1253", "cp1255", "cp1256", "cp874", "cp932", "euc_jp",
    "gb18030", "big5", "cp949", "cp1258",
)  # fmt: skip
MULTIBYTE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
MIN_COHERENCE = 0.1
"""charset-normalizer's own measure of letters that are as frequent as in some language."""
MIN_SHARE = 0.85
"""Of characters beyond ASCII that belong to one language."""
MIN_SHARE_OF_KANA = 0.3
MAX_CHAOS = 0.2
"""charset-normalizer's own measure of what looks like no text."""


def checked_encoding(name: str) -> str:
    """The name of a codec, as Python spells it.

    Raises:
        InvalidSettings: there is no such encoding.
    """
    try:
        codec = codecs.lookup(name)
        "a".encode(name)  # refuses those that make bytes of bytes
    except (LookupError, UnicodeError, ValueError):
        raise InvalidSettings(
            f"there is no encoding {name!r}; usual ones are utf-8, cp1252 (Windows, Western Europe), latin-1, cp1250, cp1251,"
            " utf-16, shift_jis and gb18030"
        ) from None
    return codec.name


def is_ascii_based(encoding: str) -> bool:
    """Whether bytes below 128 mean what they mean in ASCII, so that lines can be cut before they are decoded."""
    try:
        return all(bytes([code]).decode(encoding) == chr(code) for code in range(128))
    except UnicodeError:
        return False


def encoding_of_head(head: bytes) -> str:
    """UTF-8, UTF-16 or UTF-32 by the first bytes of a file; empty where they do not say."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    return _without_mark(head) if b"\0" in head else ""


def _without_mark(head: bytes) -> str:
    """The encoding in which these bytes, of which some are zero, are text."""
    plausible: dict[str, float] = {}
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head[: len(head) // width * width])
        except UnicodeDecodeError:
            continue
        num_ascii = sum(character.isascii() for character in text)
        num_aligned = sum(not ord(character) % 256 for character in text)  # a zero among other bytes looks like these
        if num_ascii > num_aligned and all(character.isprintable() or character in _BLANKS for character in text):
            plausible[encoding] = num_ascii / len(text)
    return max(plausible, key=lambda encoding: plausible[encoding], default="")


def detect_encoding(sample: bytes) -> str:
    """The encoding of whole lines of which at least one is no UTF-8; empty where it cannot be told."""
    share, encoding = max(_latin_shares(sample), default=(0.0, ""), key=lambda match: match[0])
    if share >= MIN_SHARE:
        return encoding
    return _japanese(sample) or _other_script(sample) or _of_any_language(sample)


def _latin_shares(sample: bytes) -> Iterator[tuple[float, str]]:
    """The share of characters beyond ASCII that a language has, in an encoding that it is written in."""
    texts: dict[str, str] = {}
    for alphabet, encodings in _LANGUAGES:
        for encoding in encodings:
            if encoding not in texts:
                texts[encoding] = _decoded(sample, encoding)
            if texts[encoding]:
                yield _share(texts[encoding], alphabet), encoding


def _share(text: str, alphabet: str) -> float:
    letters = {*alphabet, *alphabet.upper()}
    num_other = num_fitting = num_letters = 0
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if character.isascii():
            num_letters += character.isalpha()
            continue
        num_other += 1
        if character in letters:
            num_fitting += not (character.isupper() and before.islower())
        elif character in _SIGNS:  # quotes and the like stand at the ends of words
            num_fitting += character in _WITHIN_WORDS or not (before.isalpha() and after.isalpha())
    is_sparse = num_other <= 1.5 * num_letters + 2  # no language of this alphabet has more of them than of a to z
    return num_fitting / num_other if num_other and is_sparse else 0.0


def _japanese(sample: bytes) -> str:
    """Short texts in its two scripts of syllables would be taken for Korean."""
    for encoding in ("cp932", "euc_jp"):
        other = [character for character in _decoded(sample, encoding) if not character.isascii()]
        if sum("\u3041" <= character <= "\u30ff" for character in other) > MIN_SHARE_OF_KANA * len(other):
            return encoding
    return ""


def _other_script(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=list(_OTHER_SCRIPTS), threshold=MAX_CHAOS, preemptive_behaviour=False)
    fitting = [match for match in matches if _decoded(sample, match.encoding)]  # the likeliest first
    known = [match.encoding for match in fitting if match.coherence >= MIN_COHERENCE]
    # of languages with thousands of characters it knows no frequencies
    return next(iter(known + [match.encoding for match in fitting if match.encoding in MULTIBYTE]), "")


def _of_any_language(sample: bytes) -> str:
    """Of texts in many languages of Western or Central Europe."""
    for encodings in (_WESTERN[:1], _CENTRAL[:1]):
        alphabet = "".join(letters for letters, of_encodings in _LANGUAGES if set(encodings) <= set(of_encodings))
        text = _decoded(sample, encodings[0])
        if text and _share(text, alphabet) >= MIN_SHARE:
            return encodings[0]
    return ""


def _decoded(sample: bytes, encoding: str) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)  # whose last character may be cut
    except UnicodeDecodeError:
        return ""
