"""FrameReader: what goes in comes out, however the bytes are cut, and what is no frame ends the connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ipc.channel import LENGTHS, BrokenFrame, Frame, FrameReader, encode_frame

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters()), st.lists, max_leaves=5)
FRAMES = st.lists(st.builds(Frame, st.text(max_size=5), st.integers(0, 2**40), JSON, st.binary(max_size=40)), max_size=4)


@given(frames=FRAMES, size=st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(frames: list[Frame], size: int) -> None:
    stream = b"".join(map(encode_frame, frames))
    reader = FrameReader()
    read = [frame for start in range(0, len(stream), size) for frame in reader.feed(stream[start : start + size])]
    assert read == frames


def test_a_frame_is_given_only_when_it_is_complete() -> None:
    stream = encode_frame(Frame("answer", 7, {"a": 1}, b"12345"))
    reader = FrameReader()
    assert list(reader.feed(stream[:-1])) == []
    assert list(reader.feed(stream[-1:])) == [Frame("answer", 7, {"a": 1}, b"12345")]


@pytest.mark.parametrize("head", [b"no json", b"[1]", b"{}", b"7", b"\xff\xfe"])
def test_what_is_no_frame_is_refused(head: bytes) -> None:
    with pytest.raises(BrokenFrame, match="the other side sent no frame"):
        list(FrameReader().feed(LENGTHS.pack(len(head), 0) + head))


def test_the_frames_before_a_broken_one_are_given() -> None:
    frames = FrameReader().feed(encode_frame(Frame("hello")) + LENGTHS.pack(1, 0) + b"x")
    assert next(frames) == Frame("hello")
    with pytest.raises(BrokenFrame):
        next(frames)
