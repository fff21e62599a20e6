"""Nothing that the service reads can become code, and no line of it would tell anybody anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[3] / "app"
CODE_FROM_DATA = frozenset({"eval", "exec", "compile", "__import__", "execfile", "breakpoint"})
READS_CODE = frozenset({"np.load", "numpy.load", "yaml.load", "torch.load"})
READS_PICKLES = frozenset(
    {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "h5py"}
)
CALLS_OUT = frozenset(
    {
        "requests", "httpx", "aiohttp", "urllib.request", "urllib3", "http.client", "ftplib", "smtplib", "xmlrpc", "telnetlib",
        "socket", "socketserver", "huggingface_hub", "boto3", "sentry_sdk", "posthog", "analytics", "segment", "opencensus",
    }
)  # fmt: skip
STARTS_PROGRAMS = frozenset({"subprocess", "pty", "multiprocessing"})
DYNAMIC_IMPORTS = {"app/runtime/providers.py": "onnxruntime_ep_openvino", "app/cli/commands.py": "its own commands"}
"""Where a module is imported by its name, and which one: a name of ours, never one that was read."""
BETWEEN_OWN_PROCESSES = {"app/cli/ray_batch.py: pickle"}
"""On a Ray cluster, whose own messages between the command and its engines are pickles; the service never imports it."""

LISTENS = {"app/processes/http.py: socket"}
"""Which accepts, and connects to nobody."""
STARTS_ITSELF = {"app/processes/child.py"}
"""Where the supervisor starts other processes of the service; nothing else starts any, but for the one below."""
RENDERS = "app/tasks/chat_template.py"
"""Where a template of a checkpoint is rendered in a process that the kernel bounds: this Python, on a file of ours."""


Modules = dict[str, tuple[set[str], set[str]]]


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def called(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func)


def dotted(node: ast.expr) -> str:
    """A name with the names behind its dots; what is no name is left out: `(a or b).run` is `.run`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.fixture(scope="module")
def modules() -> Modules:
    """What each module of the service imports and calls."""
    trees = {str(path.relative_to(APP.parent)): ast.parse(path.read_text(encoding="utf-8")) for path in APP.rglob("*.py")}
    return {path: (set(imported(tree)), set(called(tree))) for path, tree in trees.items()}


@pytest.mark.parametrize("unwanted", [READS_PICKLES, CALLS_OUT, STARTS_PROGRAMS], ids=["pickles", "calls out", "programs"])
def test_the_service_imports_nothing_that(modules: Modules, unwanted: frozenset[str]) -> None:
    found = {f"{path}: {name}" for path, (names, _) in modules.items() for name in names for bad in unwanted
             if name == bad or name.startswith(f"{bad}.")}  # fmt: skip
    assert not found - BETWEEN_OWN_PROCESSES - LISTENS - {f"{RENDERS}: subprocess"}


def test_no_other_program_is_started(modules: Modules) -> None:
    starting = {
        path
        for path, (_, names) in modules.items()
        for name in names
        if ".create_subprocess_" in name or name.startswith(("os.spawn", "subprocess."))
    }
    assert starting == STARTS_ITSELF | {RENDERS}
    tree = ast.parse((APP.parent / "app/processes/child.py").read_text(encoding="utf-8"))
    [call] = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and "create_subprocess_" in ast.unparse(call.func)]
    assert [ast.unparse(argument) for argument in call.args] == ["sys.executable", "'-m'", "module"]


def test_templates_are_rendered_by_a_file_of_ours() -> None:
    source = (APP.parent / RENDERS).read_text(encoding="utf-8")
    started = [ast.unparse(call.args[0]) for call in ast.walk(ast.parse(source))
               if isinstance(call, ast.Call) and ast.unparse(call.func) == "subprocess.Popen"]  # fmt: skip
    assert started == ["command"]
    assert 'command = [sys.executable, "-P", str(script)]' in source
    assert 'script = Path(__file__).with_name("template_worker.py")' in source


def test_no_data_becomes_code(modules: Modules) -> None:
    for path, (_, names) in modules.items():
        assert not (CODE_FROM_DATA | READS_CODE) & names, path
        assert "importlib.import_module" not in names or path in DYNAMIC_IMPORTS, path


def test_no_word_of_it_trusts_a_strangers_code() -> None:
    for path in APP.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("trust_remote_code", "allow_pickle", "register_custom_ops_library"):
            assert word not in text, f"{path}: {word}"


def test_what_looks_for_these_would_find_them() -> None:
    tree = ast.parse("import pickle\nfrom urllib import request\neval('1')\nnp.load(x)")
    assert {"pickle", "urllib.request"} <= set(imported(tree))
    assert {"eval", "np.load"} <= set(called(tree))
