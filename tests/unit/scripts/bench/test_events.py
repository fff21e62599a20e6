"""Server-sent events as a client of a benchmark reads them."""

from __future__ import annotations

import pytest

from scripts.bench.events import EventReader, SentEvent

STREAM = 'event: token\ndata: {"text":"é"}\n\n: still writing\n\nevent: done\ndata: {"a":1}\n\n'.encode()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_their_bytes_are_cut(size: int) -> None:
    reader = EventReader()
    read = [event for start in range(0, len(STREAM), size) for event in reader.push(STREAM[start : start + size])]
    assert read == [SentEvent("token", {"text": "é"}), SentEvent("done", {"a": 1})]


def test_half_an_event_is_none() -> None:
    assert EventReader().push(STREAM[:-1]) == [SentEvent("token", {"text": "é"})]
