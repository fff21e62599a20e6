"""What tells whether an answer is all there."""

from __future__ import annotations

import pytest

from scripts.bench.connection import whole_answer

HEAD = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"content-length: 4\r\nretry-after: 1\r\n\r\nbody", 429),
        (HEAD + b"content-length: 0\r\n\r\n", 429),
        (HEAD + b"content-length: 4\r\n\r\nbod", None),
        (HEAD + b"content-length: 4\r\n\r\nbody and more", None),
        (HEAD + b"content-length: 4\r\n", None),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nbody", None),
        (HEAD + b"content-length: x\r\n\r\nbody", None),
        (b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n", None),
        (b"", None),
    ],
)
def test_an_answer_is_whole_where_its_length_says_so(data: bytes, status: int | None) -> None:
    assert whole_answer(data) == status
