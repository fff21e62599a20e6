"""What runs the documents' commands must see a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.doc_commands import DocCommand, difference, doc_commands, hooper_lines

DOCUMENT = """# How to

1. First:

   ```console
   $ hooper models
   sentiment/1  accuracy 0.92
   …
   $ curl -s http://127.0.0.1:8000 \\
     -d 1
   {}
   ```

```python
print("a")  # → a
```

<!-- not run: takes an hour -->
```console
$ hooper train big.csv
```

```sh
cd x
hooper serve --port 9000
```
"""


def test_commands_are_found_with_their_output(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(DOCUMENT)
    assert doc_commands(document) == [
        DocCommand("hooper models", ["sentiment/1  accuracy 0.92", "…"]),
        DocCommand("curl -s http://127.0.0.1:8000    -d 1", ["{}"]),
        DocCommand("python - <<'END'\nprint(\"a\")  # → a\nEND", ["a"]),
    ]
    assert hooper_lines(document) == ["hooper models", "hooper train big.csv", "hooper serve --port 9000"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a 0.91\nb", ["a 0.92", "b"]),
        ("x\ny\na", ["…", "a"]),
        ("a\nx", ["a", "…"]),
        ('{"score":0.97,"id":"f3"}', ['{"score":0.98,"id":"…"}']),
        ("1.8e-8", ["1.2e-7"]),
    ],
)
def test_output_like_that_shown_is_taken(printed: str, expected: list[str]) -> None:
    assert difference(printed, expected) is None


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a 0.7", ["a 0.9"]),
        ("a", ["a", "b"]),
        ("a\nb", ["a"]),
        ("x\ny", ["…", "a"]),
        ("positive", ["negative"]),
        ("", ["a"]),
    ],
)
def test_other_output_is_told(printed: str, expected: list[str]) -> None:
    assert difference(printed, expected) is not None
