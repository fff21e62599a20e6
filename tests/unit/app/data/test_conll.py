"""Column files are read as sentences of tokens with their tags, and a line that does not fit names its sentence's error."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, Record, records

CONLL_2003 = "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP I-PER\n\n"
UNIVERSAL = (
    "# sent_id = 1\n# text = vámonos\n1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_\n1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_\n"
    "2\tnos\tnos\tPRON\t_\t_\t1\tobj\t_\t_\n2.1\tno\tno\tADV\t_\t_\t1\tobj\t_\t_\n"
)


def read(folder: Path, name: str, content: str, **options: Any) -> list[Record]:
    (folder / name).write_text(content, encoding="utf-8")
    return list(records(folder / name, ReadOptions(say=lambda sentence: None, **options)))


def tagged(found: list[Record], column: str = "tags") -> list[tuple[list[str], list[str]]]:
    assert not any(record.broken for record in found)
    return [(record.columns["tokens"], record.columns[column]) for record in found]


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "eng.train", "a.txt", "testa"])
def test_a_blank_line_ends_a_sentence_and_the_last_column_is_the_tag(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, name, CONLL_2003)
    assert tagged(found) == [(["EU", "rejects"], ["I-ORG", "O"]), (["Peter"], ["I-PER"])]
    assert tagged(found, "column_3") == [(["EU", "rejects"], ["I-NP", "I-VP"]), (["Peter"], ["I-NP"])]
    assert [(record.where.rpartition(":")[2], record.line) for record in found] == [("3", 3), ("6", 6)]


def test_packed_and_windows_files_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.conll.gz").write_bytes(gzip.compress(CONLL_2003.replace("\n", "\r\n").encode()))
    assert tagged(list(records(tmp_path / "a.conll.gz"))) == tagged(read(tmp_path, "a.conll", CONLL_2003))


def test_a_text_is_not_taken_for_columns(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="no known format"):
        read(tmp_path, "a.txt", "one word\ntwo words\nthree words\n")
    lines = read(tmp_path, "a.txt", CONLL_2003, text_name="text", format="lines")
    assert lines[1].columns == {"text": "EU NNP I-NP I-ORG"}
    told: list[str] = []
    list(records(tmp_path / "a.txt", ReadOptions(say=told.append)))
    assert "say --format lines" in told[0]


def test_comments_are_passed_over_and_tokens_that_begin_like_one_are_not(tmp_path: Path) -> None:
    content = "# id 7 domain=en\n#Obama\tB-PER\nwon\tO\n\n# a comment\n#\tO\n1\tO\n\n# two words\nlast\tO"
    assert tagged(read(tmp_path, "a.bio", content)) == [
        (["#Obama", "won"], ["B-PER", "O"]),
        (["#", "1"], ["O", "O"]),
        (["last"], ["O"]),
    ]
    parts_of_speech = "the DT\n# NN\n\n# NN\n\n# xyz\nends VBZ\n"  # a tag that was seen makes the line a token's
    assert [tokens for tokens, _ in tagged(read(tmp_path, "a.conll", parts_of_speech))] == [["the", "#"], ["#"], ["ends"]]


def test_tabs_part_columns_where_there_are_any_and_other_spaces_are_part_of_a_token(tmp_path: Path) -> None:
    found = tagged(read(tmp_path, "a.conll", "New York\tB-LOC\t\nis\tO\nso\u00a0far \tO\n"))
    assert found == [(["New York", "is", "so\u00a0far"], ["B-LOC", "O", "O"])]
    assert tagged(read(tmp_path, "a.conll", "a,O\nb,B-X\n", delimiter=",")) == [(["a", "b"], ["O", "B-X"])]


def test_a_column_that_counts_tokens_is_none_of_theirs(tmp_path: Path) -> None:
    germeval = "#\thttp://x [2009]\n1\tSchwartz\tB-PER\tO\n2\tkam\tO\tO\n\n1\tNein\tO\tO\n"
    assert tagged(read(tmp_path, "a.conll", germeval), "column_3") == [(["Schwartz", "kam"], ["B-PER", "O"]), (["Nein"], ["O"])]


def test_columns_of_universal_dependencies_have_their_names(tmp_path: Path) -> None:
    assert tagged(read(tmp_path, "a.conllu", UNIVERSAL), "upos") == [(["vamos", "nos"], ["VERB", "PRON"])]
    plus = "# global.columns = ID FORM PARSEME:NER\n1\tvamos\tO\n2\tBob\tB-PER\n"
    assert tagged(read(tmp_path, "a.conllup", plus), "ner") == [(["vamos", "Bob"], ["O", "B-PER"])]


def test_a_file_of_tokens_alone_has_no_tags(tmp_path: Path) -> None:
    found = read(tmp_path, "a.conll", "a\nb\n\nc\n")
    assert [record.columns for record in found] == [{"tokens": ["a", "b"]}, {"tokens": ["c"]}]


def test_a_line_that_does_not_fit_costs_its_sentence_and_is_named(tmp_path: Path) -> None:
    content = "a\tO\nb\tO\n\nc\tO\nd\n\ne\t\tO\n\nlast\tO\n\n" + "long\tO\n" * 9
    found = read(tmp_path, "a.conll", content, max_bytes=50)
    assert [(record.where.rpartition(":")[2], record.broken) for record in found if record.broken] == [
        ("5", "the line has 1 column where the sentences before it have 2"),
        ("7", "the line has 3 columns where the sentences before it have 2"),
        ("11", "the sentence has more than 50 characters: is there no blank line between sentences?"),
    ]
    assert [record.columns["tokens"] for record in found if not record.broken] == [["a", "b"], ["last"]]
    (empty,) = read(tmp_path, "a.conll", "a\tO\n\tO\nb\tO\n")
    assert (empty.where.rpartition(":")[2], empty.broken) == ("2", "the line has 1 column where the sentences before it have 2")


def test_a_line_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes("é O\nb O\n\nc O\n".encode() + b"\xc3\xa4\xff\xc3 O\n\nd O\n")
    found = list(records(tmp_path / "a.conll"))
    assert [record.where.rpartition(":")[2] for record in found if record.broken] == ["5"]
    assert [record.columns["tokens"] for record in found if not record.broken] == [["é", "b"], ["d"]]
