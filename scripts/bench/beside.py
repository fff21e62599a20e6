"""`hooper bench --peer`: the service, the service in fp32, and others, all up and asked in turns."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench.peer_weights import write_transformers_folder
from scripts.bench.peers import PEERS, environment, running
from scripts.bench.service import Address, started_process
from scripts.bench.texts import profile_texts
from scripts.bench.versus import Contestant, Standing, descendants, stand


def service_settings(options: argparse.Namespace, precision: str) -> dict[str, str]:
    """Environment variables of the service that is measured."""
    return {
        "HOOPER_MODELS": str(options.models),
        "HOOPER_DEVICE": options.device,
        "HOOPER_SERVE": options.model,
        "HOOPER_PRECISION": precision,
    }


def beside_others(
    options: argparse.Namespace, stack: ExitStack, state: dict[str, Any], address: Address, process: int
) -> list[Standing]:
    """Ours, ours in fp32 where that is another thing, and the others, profile by profile."""
    contestants = [_ours(f"Hooper in {state['precision']}", options, address, process)]
    if not options.url and state["precision"] != "fp32":
        plain = stack.enter_context(started_process(service_settings(options, "fp32")))
        contestants.append(_ours("Hooper in fp32", options, *plain))
    binaries = {name: environment(PEERS[name], _say) for name in options.peer}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hooper-"))) / "model"
    write_transformers_folder(options.models / state["name"] / str(state["version"]), folder)
    for name in options.peer:
        peer = PEERS[name]
        there, number = stack.enter_context(running(peer, binaries[name], folder))
        contestants.append(Contestant(peer.title, there, peer.path, partial(peer.body, folder), partial(descendants, number)))
    return [
        standing
        for profile in options.profile
        for connections in options.connections
        for standing in stand(contestants, profile, profile_texts(profile), connections, options.seconds, options.turns)
    ]


def _ours(title: str, options: argparse.Namespace, address: Address, process: int) -> Contestant:
    def body(text: str) -> object:
        return {"model": options.model, "inputs": text}

    return Contestant(title, address, "/v1/classify", body, partial(descendants, process))


def _say(sentence: str) -> None:
    print(f"hooper bench: {sentence}", file=sys.stderr, flush=True)
