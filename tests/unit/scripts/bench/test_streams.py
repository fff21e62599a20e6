"""Texts that are measured while they are written: when each piece was there, and how each stream ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from app.core.errors import SetupError
from scripts.bench import command
from scripts.bench.command import BenchOptions, BenchReport, WrittenLine, main, writing_path
from scripts.bench.load import FAILED, percentile_ms, text_requests
from scripts.bench.service import Address, start_service
from scripts.bench.streams import StreamResult, StreamSample, ask_stream, closed_streams
from tests.support.live_service import ROOT
from tests.support.tiny_decoder import publish_tiny_decoder

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = [("token", {"text": "a"}), ("token", {"text": " b"})]
DONE = ("done", {"results": [{"num_new_tokens": 7}]})
BROKEN = ("error", {"status": 503})


def stream(*events: tuple[str, object], ends: bool = True) -> bytes:
    parts = [f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + (b"0\r\n\r\n" if ends else b"")


async def answered(answer: bytes) -> tuple[StreamSample, StreamResult]:
    """What one caller, and two who go on for a moment, see of a server that answers so and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'"a"}')
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    requests = text_requests("/x", ["a"])
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sample = await ask_stream(reader, writer, requests[0])
        writer.close()
        return sample, await closed_streams(Address("127.0.0.1", port), requests, 2, 0.05, 0.0)


@pytest.mark.parametrize(
    ("answer", "status", "num_pieces", "num_tokens"),
    [
        (stream(*TOKENS, DONE), 200, 2, 7),
        (stream(DONE), 200, 0, 7),
        (stream(TOKENS[0], BROKEN), 503, 1, 0),
        (stream(*TOKENS), FAILED, 2, 0),
        (stream(*TOKENS, ends=False), FAILED, 2, 0),
        (b"HTTP/1.1 429 x\r\nContent-Length: 2\r\n\r\n{}", 429, 0, 0),
        (b"", FAILED, 0, 0),
    ],
    ids=["whole", "beams", "broken off", "no end", "cut off", "refused", "hung up"],
)
async def test_a_stream_counts_by_its_end(
    answer: bytes, status: int, num_pieces: int, num_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()  # each look at the clock is a millisecond after the one before, however busy the machine is
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)
    sample, result = await answered(answer)
    assert (sample.status, len(sample.pieces_s), sample.num_tokens) == (status, num_pieces, num_tokens)
    assert sample.latency_s > 0
    assert {seen.status for seen in result.samples} == {status}
    assert result.num_failed == (0 if status == 200 else len(result.samples))
    assert result.tokens_per_s == pytest.approx(7 * len(result.good) / result.seconds)


def test_a_line_tells_rates_and_times_of_texts_that_were_finished() -> None:
    samples = [
        StreamSample(200, 0.4, (0.1, 0.2, 0.4), 30),
        StreamSample(200, 0.6, (0.2, 0.6), 10),
        StreamSample(503, 9.0, (8.0,)),
    ]
    line = WrittenLine.of("short", "2 callers", StreamResult(samples, 2.0))
    assert (line.tokens_per_s, line.texts_per_s, line.failed) == (20, 1, 1)
    assert (line.first_p50_ms, line.first_p99_ms) == (200, 200)
    assert (line.between_p50_ms, line.between_p99_ms) == (200, 400)
    assert (line.whole_p50_ms, line.whole_p99_ms) == (600, 600)
    page = BenchReport({"name": "en-de", "version": 1, "provider": "x", "precision": "fp32", "layout": "padded"},
                       {"processor": "p", "cores": 2}, "2026", written=[line]).to_markdown()  # fmt: skip
    assert "| short | 2 callers | 20.0 | 1.0 | 200.0 | 200.0 | 200.0 | 400.0 | 600.0 | 600.0 | 1 |" in page


@pytest.mark.parametrize(("values", "share", "expected"), [([3.0, 1.0, 2.0], 0.5, 2000), ([1.0], 0.99, 1000)])
def test_a_percentile_is_one_of_the_values(values: Sequence[float], share: float, expected: float) -> None:
    assert percentile_ms(values, share) == expected
    assert percentile_ms([], share) != percentile_ms([], share)


@pytest.mark.timeout(180)
def test_a_model_that_writes_is_measured_as_it_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny_decoder(tmp_path, task="translation")
    with start_service(
        {"HOOPER_MODELS": str(tmp_path), "HOOPER_DEVICE": "cpu", "HOOPER_ENGINE_THREADS": "1"}, folder=ROOT
    ) as service:
        assert writing_path(service.address, "writer") == "/v1/translate"
        words = [
            "--url",
            service.address.url,
            "--model",
            "writer",
            "--seconds",
            "0.5",
            "--profile",
            "short",
            "--new-tokens",
            "8",
        ]
        assert main([*words, "--connections", "2", "--json"]) == 0
        (line,) = json.loads(capsys.readouterr().out)["written"]
        assert line["tokens_per_s"] >= 8 * line["texts_per_s"] * 0.5 > 0
        assert 0 < line["first_p50_ms"] <= line["whole_p99_ms"]
        with pytest.raises(SetupError, match="leave out --rate"):
            command.run(BenchOptions(url=service.address.url, model="writer", rate=[1.0], profile=["short"]))
    assert main(["--models", str(tmp_path), "--model", "writer", "--tune"]) == 2
    assert "--tune is for models that read, and writer writes" in capsys.readouterr().err
