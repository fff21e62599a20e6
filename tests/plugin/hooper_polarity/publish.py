"""`python -m hooper_polarity.publish models sentiment polarity`: a published classifier of two labels, as a model of this task.

The graph stays the same, and so do the figures that were measured on it; the requests replayed at every load get new answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.core.artefact import latest_version, next_release, open_artefact
from app.core.errors import InvalidSettings
from app.core.manifest import NO_REFERENCE
from hooper_polarity.spec import SPEC


def publish(models: Path, source: str, name: str) -> Path:
    """
    Args:
        models: the model repository.
        source: name of the classifier.
        name: of the new model.

    Returns:
        The folder of the new version.

    Raises:
        InvalidSettings: there is no such classifier, or it has other than two labels.
        InvalidArtefact, SetupError: as for `open_artefact` and `next_release`.
    """
    folder = latest_version(models / source)
    if folder is None:
        raise InvalidSettings(f"{models / source} holds no published model")
    classifier = open_artefact(folder)
    manifest = classifier.manifest
    labels = manifest.task_options.get("labels", [])
    if len(labels) != 2 or manifest.task_options.get("problem_type", "single_label_classification").startswith("multi"):
        raise InvalidSettings(f"{classifier.id} is no classifier of two labels")
    golden = [_golden(request, labels) for request in json.loads((folder / manifest.golden).read_text(encoding="utf-8"))]
    with next_release(models, name) as release:
        release.add_files(classifier)
        (release.staging / manifest.golden).write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")
        (release.staging / "README.md").write_text(f"# {name}\n\nMade from {classifier.id}.\n", encoding="utf-8")
        temperature = manifest.task_options.get("temperature", 1.0)
        release.seal(
            manifest.model_copy(
                update={
                    "name": name,
                    "task": SPEC.name,
                    "description": f"How positive or negative a text is, by {classifier.id}.",
                    "task_options": {"temperature": temperature},
                    "reference": NO_REFERENCE,
                    "files": {
                        file: entry for file, entry in manifest.files.items() if file not in (manifest.golden, "README.md")
                    },
                }
            )
        )
    return release.folder


def _golden(request: dict[str, dict[str, object]], labels: list[str]) -> dict[str, object]:
    """What the classifier was asked, with this task's answer to it."""
    scores = {label["label"]: label["score"] for label in request["answer"]["labels"]}  # type: ignore[attr-defined]
    return {"item": {"text": request["item"]["text"]}, "answer": {"polarity": scores[labels[1]] - scores[labels[0]]}}


if __name__ == "__main__":
    print(publish(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
