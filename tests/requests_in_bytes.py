"""HTTP requests in bytes: good ones, and those that two readers could understand differently."""

from __future__ import annotations


def post(body: bytes, *headers: str, path: str = "/echo", length: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: promheal", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


CHUNKED = "Transfer-Encoding: chunked"
GET = b"GET / HTTP/1.1\r\nHost: promheal\r\n\r\n"

LENGTH = "Content-Length: 4"
SMUGGLING = {
    "length and chunked": post(chunked(b"a"), LENGTH, CHUNKED, length=False),
    "chunked and length": post(chunked(b"a"), CHUNKED, LENGTH, length=False),
    "two lengths": post(b"abcd", LENGTH, "Content-Length: 5", length=False),
    "the same length twice": post(b"abcd", LENGTH, LENGTH, length=False),
    "list of lengths": post(b"abcd", "Content-Length: 4, 4", length=False),
    "signed length": post(b"abcd", "Content-Length: +4", length=False),
    "negative length": post(b"abcd", "Content-Length: -4", length=False),
    "hexadecimal length": post(b"abcd", "Content-Length: 0x4", length=False),
    "length with underscore": post(b"abcd", "Content-Length: 1_0", length=False),
    "empty length": post(b"abcd", "Content-Length:", length=False),
    "space before the colon": post(b"abcd", "Content-Length : 4", length=False),
    "folded length": post(b"abcd", "Content-Length:\r\n 4", length=False),
    "unknown coding": post(b"abcd", "Transfer-Encoding: xchunked", length=False),
    "chunked twice": post(chunked(b"a"), "Transfer-Encoding: chunked, chunked", length=False),
    "chunked on two lines": post(chunked(b"a"), CHUNKED, CHUNKED, length=False),
    "chunked not last": post(chunked(b"a"), "Transfer-Encoding: chunked, gzip", length=False),
    "identity": post(b"abcd", "Transfer-Encoding: identity", length=False),
    "identity and length": post(b"abcd", "Transfer-Encoding: identity", LENGTH, length=False),
    "vertical tab": post(chunked(b"a"), "Transfer-Encoding: \x0bchunked", length=False),
    "chunked in HTTP/1.0": post(chunked(b"a"), CHUNKED, length=False).replace(b"/1.1", b"/1.0"),
    "bad chunk size": post(b"zz\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "signed chunk size": post(b"+4\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "prefixed chunk size": post(b"0x4\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "space in chunk size": post(b"4 \r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "empty chunk size": post(b"\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "huge chunk size": post(b"f" * 17 + b"\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "chunk too short": post(b"3\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "chunk too long": post(b"5\r\nabcd\r\n0\r\n\r\n" + GET, CHUNKED, length=False),
    "bare CR in extension": post(b"4;a\rb\r\nabcd\r\n0\r\n\r\n", CHUNKED, length=False),
    "endless extension": post(b"4;" + b"a" * 9000, CHUNKED, length=False),
    "forbidden trailer": post(chunked(b"a", end=b"0\r\nHost: x\r\n\r\n"), CHUNKED, length=False),
    "bad trailer": post(chunked(b"a", end=b"0\r\nno colon\r\n\r\n"), CHUNKED, length=False),
    "trailer with LF": post(chunked(b"a", end=b"0\r\nA: b\n\n"), CHUNKED, length=False),
    "chunk with LF": post(b"4\nabcd\n0\n\n\r\n", CHUNKED, length=False),
    "bare LF": b"GET / HTTP/1.1\nHost: promheal\n\n",
    "length after bare LF": b"POST / HTTP/1.1\r\nHost: x\nContent-Length: 4\r\n\r\nabcd",
    "bare CR": b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: x\x00\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no request": b"\r\n\r\n" + GET,
    "lower case": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragmented target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown expectation": post(b"", "Expect: wonders"),
    "long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "large headers": b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000,
}
