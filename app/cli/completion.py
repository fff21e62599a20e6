"""`hooper completion`: a script for the shell, generated from the parsers of all commands."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.cli import catalogue
from app.cli.parser import Parser
from app.settings import Settings

EXAMPLES = """  hooper completion bash > ~/.local/share/bash-completion/completions/hooper
  source <(hooper completion bash)              for this shell alone
  hooper completion zsh > "${fpath[1]}/_hooper"
  hooper completion fish > ~/.config/fish/completions/hooper.fish
"""
MODEL_DESTS = ("model",)
"""What is completed with the names of published models."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command: what it is called, what it may be followed by, and what it is for."""

    name: str
    takes_value: bool
    choices: Sequence[str]
    is_model: bool
    summary: str


@dataclass(frozen=True, slots=True)
class Completed:
    """One command with what may follow it."""

    name: str
    summary: str
    options: Sequence[Option]
    takes_model: bool
    choices: Sequence[str]
    """Of its first positional argument."""


def add_options(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="bash|zsh|fish", help="the shell")


def run(options: argparse.Namespace) -> int:
    commands = [_completed(one) for one in catalogue.commands()]
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](commands), end="")
    return 0


def bash(commands: Sequence[Completed]) -> str:
    """For `complete -F`: the command by its words, then its options, the values of an option, models, or files."""
    cases = "\n".join(_bash_case(one) for one in reversed(commands))  # `models show` before `models`
    names = " ".join(dict.fromkeys(one.name.split()[0] for one in commands))
    return f"""# bash completion for hooper; made by `hooper completion bash`
_hooper_models() {{
    local root=${{HOOPER_MODELS:-models}} folder
    for folder in "$root"/*/ "$root"/*/*/; do
        folder=${{folder#"$root"/}}
        [[ -d $root/$folder ]] && echo "${{folder%/}}"
    done
}}
_hooper() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words options
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{names} --help --version" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}
        *) return ;;
    esac
    [[ $word == -* ]] && words=$options
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _hooper hooper
"""


def _bash_case(one: Completed) -> str:
    lines = [f"        {_pattern(one)})"]
    values = [option for option in one.options if option.takes_value]
    if values:
        lines += ['            case "$before" in', *(f"                {_bash_value(option)}" for option in values)]
        lines.append("            esac")
    words = "$(_hooper_models)" if one.takes_model else " ".join(one.choices)
    options = " ".join(option.name for option in one.options)
    return "\n".join([*lines, f'            words="{words}" options="{options}" ;;'])


def _bash_value(option: Option) -> str:
    if not option.choices and not option.is_model:
        return f"{option.name}) return ;;"  # bash completes a file's name
    words = "$(_hooper_models)" if option.is_model else " ".join(option.choices)
    return f'{option.name}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return ;;'


def _pattern(one: Completed) -> str:
    """Of the first two words, for `case`."""
    return f'"{one.name}"' if " " in one.name else f'"{one.name} "*'


def zsh(commands: Sequence[Completed]) -> str:
    """The same with descriptions, without the values of options."""
    cases = "\n".join(f"        {_pattern(one)}) {_zsh_case(one)} ;;" for one in reversed(commands))
    listed = " ".join(_quoted(f"{one.name}:{one.summary}") for one in commands if " " not in one.name)
    return f"""#compdef hooper
# zsh completion for hooper; made by `hooper completion zsh`
_hooper() {{
    local -a commands options words_here
    commands=({listed})
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case "${{words[2]}} ${{words[3]}}" in
{cases}
    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe option options
    elif (( $#words_here )); then
        compadd -a words_here
    else
        _files
    fi
}}
_hooper "$@"
"""


def _zsh_case(one: Completed) -> str:
    options = " ".join(_quoted(f"{option.name}:{option.summary}") for option in one.options)
    return f"options=({options}) words_here=({' '.join(one.choices)})"


def fish(commands: Sequence[Completed]) -> str:
    return "".join(f"{line}\n" for line in _fish_lines(commands))


def _fish_lines(commands: Sequence[Completed]) -> Iterator[str]:
    yield "# fish completion for hooper; made by `hooper completion fish`"
    for one in commands:
        first, _, second = one.name.partition(" ")
        if second:
            yield f"complete -c hooper -n '__fish_seen_subcommand_from {first}' -a {second} -d {_quoted(one.summary)}"
        else:
            yield f"complete -c hooper -n __fish_use_subcommand -a {first} -d {_quoted(one.summary)}"
        condition = f"__fish_seen_subcommand_from {second or first}"
        for option in one.options:
            values = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -r" if option.takes_value else ""
            name = option.name.lstrip("-")
            yield f"complete -c hooper -n {_quoted(condition)} -l {name} -d {_quoted(option.summary)}{values}"


def _completed(command: catalogue.Command) -> Completed:
    parser = catalogue.parser_of(command)
    options = [_option(one) for one in parser._actions if one.option_strings]
    positional: Any = next((one for one in parser._actions if not one.option_strings), None)
    takes_model = positional is not None and positional.dest in MODEL_DESTS
    choices = list(map(str, positional.choices)) if positional is not None and positional.choices else []
    seconds = [one.words[1] for one in catalogue.commands() if one.words[0] == command.name and len(one.words) > 1]
    return Completed(command.name, command.summary, options, takes_model, choices or seconds)


def _option(action: argparse.Action) -> Option:
    name = next((one for one in action.option_strings if one.startswith("--")), action.option_strings[0])
    summary = (action.help or "").partition(";")[0].replace("%%", "%")
    choices = list(map(str, action.choices or _choices_of_setting(action.dest)))
    return Option(name, action.nargs != 0, choices, action.dest in MODEL_DESTS, summary)


def _choices_of_setting(name: str) -> Sequence[str]:
    field = Settings.model_fields.get(name)
    return typing.get_args(field.annotation) if field and typing.get_origin(field.annotation) is Literal else ()


def _quoted(text: str) -> str:
    """In single quotes, which no shell looks into; the text's own are written between two pairs of them."""
    return "'" + text.replace("'", "'\\''") + "'"
