"""Prints what Hooper requires with the named extras, one requirement a line: `requirements.py cpu train`.

pip can install a project or nothing of it; an image wants the dependencies in a layer below the code.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for extra in sys.argv[1:]:
    if extra not in project["optional-dependencies"]:
        sys.exit(f"pyproject.toml has no extra {extra}")
print(*project["dependencies"], *(one for extra in sys.argv[1:] for one in project["optional-dependencies"][extra]), sep="\n")
