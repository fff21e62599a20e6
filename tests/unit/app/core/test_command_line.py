"""A function is a command: its options are read, mistakes are one sentence, errors become exit codes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
import typer

from app.core.command_line import annotated_option, offline_errors, parse_options, program, spread
from app.core.errors import InvalidSettings
from app.core.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SETUP

OPTIONS = {
    "data": annotated_option("data", list[str], "files", metavar="FILE"),
    "repeat": annotated_option("repeat", list[int], "how often each"),
    "profile": annotated_option("profile", list[Literal["short", "long"]], "which texts"),
    "storage": annotated_option("storage", Literal["int8", "fp16"], "how weights lie"),
    "merge": annotated_option("merge", bool, "one of each", default=True),
    "share": annotated_option("share", float | None, "of all [the rows]", "in a group"),
}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("", {}),
        ("--data a b --share 0.5", {"data": ["a", "b"], "share": 0.5}),
        ("--data a --data b --repeat 1 2", {"data": ["a", "b"], "repeat": [1, 2]}),
        ("--no-merge --storage fp16", {"merge": False, "storage": "fp16"}),
        ("--share -1", {"share": -1.0}),
        ("--data -", {"data": ["-"]}),
        ("--profile long short", {"profile": ["long", "short"]}),
    ],
)
def test_options_that_are_left_out_are_not_given_and_a_list_takes_several_words(words: str, given: dict[str, Any]) -> None:
    assert parse_options(OPTIONS, words.split()) == given


@pytest.mark.parametrize("words", ["--repeat x", "--storage fp8", "--dada a", "--share"])
def test_a_wrong_option_is_named(words: str) -> None:
    with pytest.raises(InvalidSettings, match=words.split()[0]):
        parse_options(OPTIONS, words.split())


ERRORS = {
    "setting": InvalidSettings("no"),
    "module": ModuleNotFoundError("no", name="torch"),
    "bug": KeyError("x"),
    "stop": KeyboardInterrupt(),
}


@program("hooper try", "  hooper try one\n", offline_errors("hooper try", "nothing was tried"))
@spread("options", OPTIONS, dict)
def attempt(
    options: dict[str, Any],
    what: Annotated[str, typer.Argument(metavar="WHAT", help="what to try")],
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help="where")] = None,
) -> int:
    """Try something."""
    print(what, options, ray)
    if what in ERRORS:
        raise ERRORS[what]
    return 7


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["one", "--data", "a", "b"], "one {'data': ['a', 'b']} None\n"),
        (["one", "--ray"], "one {} \n"),
        (["one", "--ray", "--merge"], "one {'merge': True} \n"),
        (["one", "--ray", "10.0.0.1:6379"], "one {} 10.0.0.1:6379\n"),
        (["--", "--data"], "--data {} None\n"),
    ],
)
def test_a_command_is_called_with_its_arguments_and_gives_its_exit_code(
    words: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attempt(words) == 7
    assert capsys.readouterr().out == printed
    assert attempt.command.words == tuple(words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "hooper try: the following arguments are required: WHAT ("),
        (["one", "--dat", "a"], "hooper try: '--dat' is not known here; did you mean '--data'? (`hooper try --help`"),
        (["one", "--share", "x"], "hooper try: invalid value for '--share': 'x' is not a valid float"),
        (["one", "two"], "hooper try: 'two' is not known here (`hooper try --help`"),
        (["one", "--share"], "hooper try: option '--share' requires an argument (`hooper try --help`"),
        (["one", "--storage", "--merge"], "hooper try: option '--storage' requires an argument (`hooper try --help`"),
        (["one", "--data", "--share=1"], "hooper try: option '--data' requires an argument (`hooper try --help`"),
    ],
)
def test_a_mistake_is_one_sentence(words: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt(words) == EXIT_SETUP
    error = capsys.readouterr().err
    assert error.startswith(sentence)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [
        ("setting", EXIT_SETUP, "hooper try: no\n"),
        ("module", EXIT_SETUP, "hooper try: torch is not installed; run `pip install 'hooper[train]'`\n"),
        ("stop", EXIT_INTERRUPTED, "\nhooper try: stopped; nothing was tried\n"),
        ("bug", EXIT_FAILED, "hooper try: unexpected, see above; nothing was tried\n"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    what: str, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attempt([what]) == code
    error = capsys.readouterr().err
    assert error.endswith(sentence)
    assert ("Traceback" in error) == (what == "bug")


def test_help_shows_every_option_in_its_group_and_then_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: hooper try [OPTIONS] WHAT\n\n  Try something.\n")
    assert all(f"--{name}" in text for name in OPTIONS)
    assert "\nin a group:\n  --share NUMBER  of all [the rows]\n" in text
    assert text.endswith("\nexamples:\n  hooper try one\n")


@pytest.mark.parametrize(("columns", "has_boxes"), [(80, False), (120, True)])
def test_help_stands_in_boxes_on_a_broad_terminal(
    columns: int, has_boxes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    assert attempt(["--help"]) == 0
    text = capsys.readouterr().out
    assert ("╭" in text) == has_boxes
    assert "of all [the rows]" in text
    assert text.endswith("\nexamples:\n  hooper try one\n")
