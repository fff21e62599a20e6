"""Encodings are told from short texts as from long ones, in the languages that are written in them."""

from __future__ import annotations

import random

import pytest

from app.data.encodings import detect_encoding, encoding_of_head

TEXTS = [
    ("cp1252", "Die Lieferung kam zu spät, das Päckchen war aufgerissen.\nPreis 12,50 € – nie wieder!\n"),
    ("cp1252", "Le colis est arrivé très tard et l’emballage était abîmé.\nOù est mon remboursement ?\n"),
    ("cp1252", "¿Dónde está mi pedido? Llegó con daños en la caja.\n"),
    ("cp1252", "Leveransen kom för sent och paketet var skadat på ena sidan.\n"),
    ("cp1252", "It’s a café in town – very nice indeed.\n"),
    ("iso8859_15", "Größe L kostet 12 €, das ist schön günstig.\n"),
    ("mac_roman", "Die Lieferung kam zu spät, das Päckchen war schön.\n"),
    ("cp850", "Die Lieferung kam zu spät, das Päckchen war schön.\n"),
    ("cp1250", "Przesyłka przyszła za późno, a paczka była uszkodzona.\n"),
    ("cp1250", "Zásilka přišla příliš pozdě a krabice byla poškozená.\n"),
    ("cp1254", "Paket çok geç geldi, müşteri hizmetleri iyiydi, alışveriş yaptım.\n"),
    ("cp1251", "Посылка пришла слишком поздно, коробка была повреждена.\n"),
    ("koi8_r", "Посылка пришла слишком поздно, коробка была повреждена.\n"),
    ("cp1253", "Το δέμα έφτασε πολύ αργά και το κουτί ήταν κατεστραμμένο.\n"),
    ("cp1255", "החבילה הגיעה מאוחר מדי והקופסה הייתה פגומה.\n"),
    ("cp1256", "وصل الطرد متأخرا جدا وكان الصندوق تالفا.\n"),
    ("cp932", "荷物がとても遅れて届き、箱が壊れていました。\n"),
    ("euc_jp", "荷物がとても遅れて届き、箱が壊れていました。\n"),
    ("gb18030", "包裹送得太晚了，盒子也坏了。\n"),
    ("big5", "包裹送得太晚了，盒子也壞了。\n"),
    ("cp949", "소포가 너무 늦게 도착했고 상자가 파손되었습니다.\n"),
]


@pytest.mark.parametrize("times", [1, 60])
@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_texts_come_back_as_they_were(encoding: str, text: str, times: int) -> None:
    content = text.encode(encoding) * times
    detected = detect_encoding(content)
    assert detected
    assert content.decode(detected) == text * times


def test_a_last_character_that_is_cut_is_no_fault() -> None:
    assert detect_encoding("荷物がとても遅れて届き".encode("cp932")[:-1]) == "cp932"


def test_noise_has_no_encoding() -> None:
    assert detect_encoding(random.Random(0).randbytes(3000)) == ""


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["text,label\ngrün,1\n", "文本,标签\n一,1\n"])
def test_wide_encodings_are_known_without_a_mark(encoding: str, text: str) -> None:
    assert encoding_of_head(text.encode(encoding)) == encoding


def test_zero_bytes_alone_make_no_wide_encoding() -> None:
    assert encoding_of_head(b"a\x00b\nc\n") == ""
    assert encoding_of_head(b"\x00" * 64) == ""
