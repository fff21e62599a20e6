"""A real Ray cluster on this machine: a head and another node, with room for one engine each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.settings import PREFIX

PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",  # on a machine under load, Ray gives its own processes up
    "RAY_worker_niceness": "0",  # of 15 they get nothing where anything else computes
}


@contextmanager
def two_nodes(environment: Mapping[str, str] | None = None) -> Iterator[tuple[Any, Any]]:
    """The cluster and its other node.

    Args:
        environment: further variables for Ray's processes.
    """
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patched.delenv(name)
        for name, value in {**PATIENT, **(environment or {})}.items():
            patched.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            yield cluster, cluster.add_node(num_cpus=1)
        finally:
            cluster.shutdown()


def end_as_a_power_cut_does(cluster: Any, node: Any) -> None:
    """The node with all of its processes, whatever they are doing."""
    for process in children(node):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def children(node: Any) -> list[int]:
    """Processes that the node runs for those who use the cluster."""
    raylet = node.all_processes["raylet"][0].process.pid
    processes = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return [process for process in processes if parent_of(process) == raylet]


def title_of(process: int) -> str:
    """What Ray calls it; nothing where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def parent_of(process: int) -> int | None:
    """None where it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
