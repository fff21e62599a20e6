"""Kustomize, as much of it as deploy/kubernetes uses: so that what is deployed can be tested without its program.

Known are `resources`, `components`, `namespace`, `images` (tags) and `patches` by file (a strategic merge); anything else is
refused. Where kubectl is, a test compares this with what it makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "components", "namespace", "images", "patches"}
CLUSTER_WIDE = {"Namespace"}
MERGED_BY = {"containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
"""Lists of a pod that a patch adds to, and the key that tells their items apart; a patch replaces every other list."""

Resource = dict[str, Any]


def build(folder: Path) -> list[Resource]:
    """The resources that `kubectl kustomize FOLDER` prints, in the order in which the files name them."""
    resources: list[Resource] = []
    _apply(folder, resources)
    return resources


def documents(file: Path) -> list[Resource]:
    """The YAML documents of a file."""
    found = yaml.load_all(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [document for document in found if document is not None]


def _apply(folder: Path, resources: list[Resource]) -> None:
    (wishes,) = documents(folder / "kustomization.yaml")
    unknown = set(wishes) - KNOWN
    assert not unknown, f"{folder}: {sorted(unknown)} are not known here"
    own: list[Resource] = []
    for name in wishes.get("resources", []):
        own += documents(folder / name) if (folder / name).is_file() else build(folder / name)
    resources += own
    for name in wishes.get("components", []):
        _apply(folder / name, resources)
    for patch in wishes.get("patches", []):
        for change in documents(folder / patch["path"]):
            _merge(_named(resources, change), change)
    for image in wishes.get("images", []):
        _tag(resources, image)
    for resource in resources:
        if "namespace" in wishes and resource["kind"] not in CLUSTER_WIDE:
            resource["metadata"]["namespace"] = wishes["namespace"]


def _named(resources: list[Resource], wanted: Resource) -> Resource:
    name = (wanted["kind"], wanted["metadata"]["name"])
    (found,) = [resource for resource in resources if (resource["kind"], resource["metadata"]["name"]) == name]
    return found


def _merge(into: Resource, change: Resource) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and key in MERGED_BY and key in into:
            _merge_list(into[key], value, MERGED_BY[key])
        else:
            into[key] = value


def _merge_list(into: list[Resource], changes: list[Resource], key: str) -> None:
    for change in changes:
        for item in into:
            if item[key] == change[key]:
                _merge(item, change)
                break
        else:
            into.append(change)


def _tag(resources: list[Resource], image: Resource) -> None:
    assert set(image) == {"name", "newTag"}, image
    for resource in resources:
        pod = resource.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"
