"""How a conversation becomes the text that a model was trained to continue: the chat template of its checkpoint.

A template is a program out of a checkpoint, and what it reads comes from callers: it is rendered in a process of its own
(`template_worker.py`), where processor time, memory and the length of the text are bounded by the system.
"""

from __future__ import annotations

import atexit
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from app.core.errors import InvalidArtefact, InvalidInput, Unavailable, brief
from app.tasks.template_worker import RENDER_S, read_message, write_message

MAX_TEMPLATE_CHARACTERS = 256_000
PATIENCE_S = 10.0
"""So long an answer is waited for: of processor time it takes less, but the machine may be busy."""
DEFAULT, WITH_TOOLS = "default", "tool_use"
"""Names of templates, where a checkpoint has several; transformers knows them by these."""
SAMPLE: Sequence[Mapping[str, Any]] = ({"role": "user", "content": "Good morning!"},)
"""A conversation that every template can render."""


class TemplateProcess:
    """Renders templates one after the other, in a process that is started when it is needed.

    Invariant: a process that did not answer in time is gone before the next request is sent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, template: str, variables: Mapping[str, Any]) -> dict[str, str]:
        """
        Returns:
            the `text`, or what the template says against it, its `refusal`, or why it cannot be rendered, the `error`.
        """
        with self._lock:
            process = self._running()
            try:
                return self._asked(process, {"template": template, "variables": dict(variables)})
            except (EOFError, OSError):
                is_slow = self._end() == -signal.SIGPROF
                return {"error": f"takes more than {RENDER_S:g} s of processor time" if is_slow else "ends what renders it"}
            except TimeoutError:
                self._end()
                raise Unavailable("the chat template was not rendered in time; the machine is busy") from None
            except BaseException:  # half an exchange is no basis for the next one
                self._end()
                raise

    def close(self) -> None:
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:  # somebody else ended it
            self._end()
        if self._process is None:
            script = Path(__file__).with_name("template_worker.py")
            command = [sys.executable, "-P", str(script)]
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)
            atexit.register(self.close)
        return self._process

    def _asked(self, process: subprocess.Popen[bytes], request: Any) -> dict[str, str]:
        there, back = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        write_message(there, request)
        if not select.select([back], [], [], PATIENCE_S)[0]:
            raise TimeoutError
        answer: dict[str, str] = read_message(back)
        return answer

    def _end(self) -> int | None:
        """What it ended with: where it was ended by the system, that came first."""
        process, self._process = self._process, None
        if process is None:
            return None
        atexit.unregister(self.close)
        with process:  # closes its pipes
            process.kill()
            return process.wait()


PROCESS = TemplateProcess()
"""For all models: started with the first conversation."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The templates of a model, and what its tokenizer's special tokens are called in them."""

    sources: Mapping[str, str]
    special_tokens: Mapping[str, str]
    """As transformers' `special_tokens_map`: `bos_token`, `eos_token`, …; those that are lists left out."""

    def __post_init__(self) -> None:
        if DEFAULT not in self.sources:
            raise InvalidArtefact(f"task_options.chat_template: there is none under the name {DEFAULT!r}")
        for name, source in self.sources.items():
            if len(source) > MAX_TEMPLATE_CHARACTERS:
                raise InvalidArtefact(
                    f"task_options.chat_template.{name}: {len(source)} characters; at most {MAX_TEMPLATE_CHARACTERS} are read"
                )

    @property
    def knows_tools(self) -> bool:
        """Whether it tells a model what functions it may call."""
        return WITH_TOOLS in self.sources or "tools" in self.sources[DEFAULT]

    def check(self) -> None:
        """
        Raises:
            InvalidArtefact: it cannot render a single greeting.
        """
        answer = self._answer(SAMPLE, None, True, {})
        if "text" not in answer:
            reason = answer.get("error") or answer["refusal"]
            raise InvalidArtefact(brief(f"task_options.chat_template: a greeting cannot be rendered: {reason}"))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation, special tokens included. Takes a few milliseconds: not for the event loop.

        Args:
            messages: as OpenAI's API has them.
            tools: functions that the model may call, in the same way.
            add_generation_prompt: whether the beginning of an answer stands at its end.
            variables: of the template's own, such as `enable_thinking`.

        Raises:
            InvalidInput: the template refuses the conversation, in its words, or cannot be rendered with it within bounds.
        """
        answer = self._answer(messages, tools, add_generation_prompt, variables or {})
        if "refusal" in answer:
            raise InvalidInput(brief(answer["refusal"]), "messages")
        if "error" in answer:
            raise InvalidInput(brief(f"the model's chat template cannot render them: {answer['error']}"), "messages")
        return answer["text"]

    def _answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        variables: Mapping[str, Any],
    ) -> dict[str, str]:
        name = WITH_TOOLS if tools is not None and WITH_TOOLS in self.sources else DEFAULT
        values = {
            **self.special_tokens,
            **variables,
            "messages": list(messages),
            "tools": None if tools is None else list(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        return PROCESS.render(self.sources[name], values)
