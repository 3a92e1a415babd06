"""Where a request ends, from bytes alone: no socket, no server."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from receiver.web.server.framing import Framing, Progress, Refusal
from receiver.web.server.parsing import parse
from tests.requests_in_bytes import CHUNKED, GET, SMUGGLING, chunked, post


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    trailer=st.sampled_from([b"", b"X-Sum: 1\r\n"]),
    extension=st.sampled_from([b"", b";a=b"]),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
def test_a_chunked_request_is_complete_at_its_last_byte_however_it_is_cut(
    chunks: list[bytes], trailer: bytes, extension: bytes, cuts: list[int]
) -> None:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks)
    request = post(body + b"0\r\n" + trailer + b"\r\n", CHUNKED, length=False)
    framing, buffer, done = Framing(1000), bytearray(), 0
    for cut in sorted({min(cut, len(request) - 1) for cut in cuts}):
        buffer += request[done:cut]
        done = cut
        assert framing.advance(buffer) is Progress.PARTIAL
    buffer += request[done:] + b"GET"
    assert framing.advance(buffer) is Progress.COMPLETE
    assert framing.end == len(request)


@pytest.mark.parametrize(
    "request_",
    [GET, post(b""), post(b"abc"), b"\r\n" + GET, post(chunked(b"ab"), CHUNKED, length=False)],
)
def test_nothing_is_complete_before_its_last_byte(request_: bytes) -> None:
    framing, buffer = Framing(1000), bytearray()
    seen = []
    for byte in request_:
        buffer.append(byte)
        seen.append(framing.advance(buffer))
    assert set(seen[:-1]) == {Progress.PARTIAL}
    assert seen[-1] is Progress.COMPLETE


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"", "Content-Length: 1001", length=False), 413),
        (post(b"", "Content-Length: " + "9" * 5000, length=False), 413),
        (post(b"3e9\r\n", CHUNKED, length=False), 413),
        (post(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n", CHUNKED, length=False), 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 65536, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 65536 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_there(request_: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        Framing(1000).advance(bytearray(request_))
    assert refused.value.status == status


def test_chunks_of_one_byte_are_refused_before_they_cost_much() -> None:
    request = bytearray(post(chunked(b"x") * 0 + b"1\r\nx\r\n" * 20_000, CHUNKED, length=False))
    with pytest.raises(Refusal, match="more framing than content"):
        Framing(8 << 20).advance(request)


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_two_could_read_differently_is_never_parsed(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        serve(SMUGGLING[name])
    assert refused.value.status in {400, 414, 417, 431, 501}


def test_what_is_unambiguous_is_parsed() -> None:
    assert serve(post(b"abc") + GET) == b"abc"
    assert serve(post(chunked(b"ab", b"c"), CHUNKED, length=False)) == b"abc"
    assert serve(GET) == b""


def serve(data: bytes) -> bytes:
    """Feed *data* byte by byte, as the worker does; return the body of the first request."""
    framing, buffer = Framing(1000), bytearray()
    progress = Progress.PARTIAL
    for byte in data:
        buffer.append(byte)
        progress = framing.advance(buffer)
        if progress is not Progress.PARTIAL:
            break
    else:
        raise EOFError
    pieces = iter([bytes(buffer[: framing.head]), bytes(buffer[framing.head :])])
    req = parse(Config(), pieces, ("127.0.0.1", 1), number=1, progress=progress)
    body: bytes = req.body.read()
    return body
