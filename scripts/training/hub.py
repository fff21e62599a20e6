"""Names of models and data sets that are no folder here: whether the hub of Hugging Face can be asked, and what else holds.

The hub's library is imported where it is needed: files are read on machines that do not have it.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import InvalidSettings

TIMEOUT_S = 5
"""How long the hub may take to answer at all."""
_REASONS = {
    "ConnectTimeout": f"no answer within {TIMEOUT_S} s",
    "ReadTimeout": f"no answer within {TIMEOUT_S} s",
    "ProxyError": "the proxy does not let it through",
    "SSLError": "its certificate is not trusted",
}
"""Why it cannot be reached, by the type of what the hub's library raises."""


@functools.cache
def why_unreachable() -> str:
    """Why the hub cannot be reached, in a few words; empty where it answers, whatever it says.

    It is asked once in a process, by the library's own session: `HF_ENDPOINT`, `HF_HUB_OFFLINE` and proxies hold here too. The
    library alone would try each file six times, for a minute and more.
    """
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=TIMEOUT_S)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except Exception as error:  # the session's library is another one from release to release
        return _REASONS.get(type(error).__name__, "no connection")
    return ""


def unreachable_clause() -> str:
    """`the hub (https://huggingface.co) cannot be reached: no connection`; empty where it answers."""
    import huggingface_hub

    reason = why_unreachable()
    return f"the hub ({huggingface_hub.constants.ENDPOINT}) cannot be reached: {reason}" if reason else ""


def names_a_path(name: str) -> bool:
    """Whether a name is meant for this machine alone: no hub has names like it, or the folder that it would lie in is here."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and Path(name).parent.is_dir())


def nearest(name: str, is_meant: Callable[[Path], bool] = Path.exists) -> str:
    """`; did you mean models/films?` where an entry of the same folder is nearly called so, else nothing."""
    folder = Path(name).parent
    try:
        names = [path.name for path in folder.iterdir() if is_meant(path)]
    except OSError:
        return ""
    near = difflib.get_close_matches(Path(name).name, names, n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""


def model_location(name: str, role: str) -> str:
    """What transformers loads for a name that is no folder: the name itself where the hub answers, else the folder of the
    library's cache.

    Args:
        role: what it is needed as, for the sentence: `base model`, `teacher`, ….

    Raises:
        InvalidSettings: the hub cannot be reached and the cache does not hold it, or it can be no name on the hub.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils._validators import validate_repo_id  # which the library's own typing does not export

    near = nearest(name, Path.is_dir)
    try:
        validate_repo_id(name)
        if not why_unreachable():
            return name
        return str(huggingface_hub.snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise InvalidSettings(f"the {role} {name!r} is no folder, and no name that a hub can have{near}") from error
    except LocalEntryNotFoundError as error:
        packaged = ", say `packaged` for the one that is installed" if role == "base model" else ""
        raise InvalidSettings(
            f"the {role} {name!r} is no folder, {unreachable_clause()}, and what was fetched from it before"
            f" ({huggingface_hub.constants.HF_HUB_CACHE}) does not hold it{near or '.'} Name a folder{packaged}, or fetch it"
            f" where there is a network: hf download {name}"
        ) from error


@contextmanager
def data_sets_from_cache() -> Iterator[None]:
    """Meanwhile `datasets` reads what it has downloaded before, and tries no connection."""
    from datasets import config  # takes a second, and files need none of it

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before
