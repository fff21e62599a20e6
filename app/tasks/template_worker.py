"""A process that renders chat templates: a template is a program, and one that does not end is ended by the system.

Run as a script. It reads requests and writes answers as `Message`s over its standard streams; it ends with its input. It knows
nothing of the service, so that it starts in the time that Jinja takes.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import cache, lru_cache
from typing import IO, Any

LENGTH = struct.Struct(">I")
"""Before each message: its bytes."""
COMPILE_S = 1.0
RENDER_S = 0.1
"""Seconds of processor time, after which the system ends the process."""
MAX_CHARACTERS = 1_000_000
"""Of what is rendered."""
MAX_MEMORY_BYTES = 512 * 2**20
"""Of the process, the interpreter's own included: more of it is refused as it is asked for."""
KEPT = 64
"""Templates that are kept compiled."""


def write_message(stream: IO[bytes], value: Any) -> None:
    content = json.dumps(value).encode()  # in ASCII: half a surrogate pair passes, too
    stream.write(LENGTH.pack(len(content)) + content)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """
    Raises:
        EOFError: the other side has ended.
    """
    head = _exactly(stream, LENGTH.size)
    return json.loads(_exactly(stream, LENGTH.unpack(head)[0]))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


class TemplateRefusal(Exception):
    """What a template says by `raise_exception`."""


def _refuse(message: Any) -> None:
    raise TemplateRefusal(str(message))


def _as_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@cache
def environment() -> Any:
    """As `_compile_jinja_template` of transformers makes it (`utils/chat_template_utils.py`)."""
    from jinja2 import ext, nodes  # here: who asks this process needs nothing of Jinja
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(ext.Extension):
        """`{% generation %}` marks what an assistant wrote, for training; rendered it is what stands in it."""

        tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, ext.loopcontrols])
    made.filters["tojson"] = _as_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # of the place, as transformers does
    return made


@lru_cache(KEPT)
def compiled(source: str) -> Any:
    return environment().from_string(source)


def _limit_processor_time(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process, whatever it is computing


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        _limit_processor_time(COMPILE_S)
        template = compiled(request["template"])
        _limit_processor_time(RENDER_S)
        return {"text": "".join(_bounded(template.generate(**request["variables"])))}
    except TemplateRefusal as refusal:
        return {"refusal": str(refusal)}
    except OverflowError as error:  # here, or a range that the sandbox finds too large
        return {"error": str(error)}
    except MemoryError:
        return {"error": "needs more memory than it may have"}
    except RecursionError:
        return {"error": "calls itself too often"}
    except Exception as error:  # a template raises whatever Python does
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        _limit_processor_time(0)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise OverflowError(f"writes more than {MAX_CHARACTERS:,} characters")
        yield piece


def main() -> None:
    import resource  # of Unix alone

    environment()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            request = read_message(sys.stdin.buffer)
        except EOFError:
            return
        write_message(sys.stdout.buffer, _answer(request))


if __name__ == "__main__":
    main()
