"""Load: requests as the server reads them, answers counted and timed, arrivals matched to what caused them."""

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from benchmarks.load import Load, batches, pace, percentile, post, saturate
from benchmarks.webhook.__main__ import compare, person_of


async def with_server(status: int, work: Callable[[int], Coroutine[Any, Any, Load]]) -> tuple[Load, list[bytes]]:
    """Do some work against a server that answers this status; the bodies that it read."""
    read: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""):
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            read.append(await reader.readexactly(int(length.split(b":")[1])))
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    load = await work(server.sockets[0].getsockname()[1])
    server.close()
    return load, read


def test_a_request_is_http_with_its_body() -> None:
    plain, zipped = post("/v1/batch", b"{}", "key"), post("/v1/batch", b"{}", zipped=True)
    head, _, body = plain.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/batch HTTP/1.1\r\n") and b"content-length: 2" in head and body == b"{}"
    assert b"authorization: Basic a2V5Og==" in head
    head, _, body = zipped.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head and b"authorization" not in head and gzip.decompress(body) == b"{}"


def test_batches_hold_every_event_in_order() -> None:
    bodies = batches((b"%d" % number for number in range(25)), 10)
    assert [msgspec.json.decode(body)["batch"] for body in bodies] == [[*range(10)], [*range(10, 20)], [*range(20, 25)]]


def test_percentiles() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0, 0.5, 0.99, 1)] == [1, 3, 4, 4]
    assert percentile([], 0.5) == 0


def test_saturating_counts_what_was_answered() -> None:
    load, read = asyncio.run(with_server(200, lambda port: saturate(port, [post("/", b"a"), post("/", b"b")], 3, 0.1)))
    assert load.failed == 0 and load.answered == len(read) == len(load.waits_ms) >= 3
    assert set(read) == {b"a", b"b"} and load.waits_ms == sorted(load.waits_ms)


def test_an_answer_that_is_no_success_counts_as_failed() -> None:
    load, _ = asyncio.run(with_server(503, lambda port: pace(port, [post("/", b"a")] * 5, 1_000, 2, lambda number, at: None)))
    assert (load.answered, load.failed) == (0, 5)


def test_pacing_sends_each_request_once_and_says_when() -> None:
    sent: dict[int, int] = {}
    requests = [post("/", b"%d" % number) for number in range(20)]
    load, read = asyncio.run(with_server(200, lambda port: pace(port, requests, 2_000, 4, sent.__setitem__)))
    assert load.answered == 20 and sorted(map(int, read)) == sorted(sent) == [*range(20)]
    assert list(sent.values()) == sorted(sent.values())


def arrival(number: int, at_ms: int) -> tuple[int, str, bytes]:
    body = {
        "identifiers": [{"namespace": "user_id", "value": "u"}, {"namespace": "anonymous_id", "value": f"a-{number:08d}-6c1f"}]
    }
    return at_ms * 1_000_000, f"dlv_{number}", msgspec.json.encode(body)


def test_arrivals_are_matched_to_the_request_of_their_person() -> None:
    assert person_of(arrival(123, 0)[2]) == 123
    sent_ns = {0: 0, 1: 1_000_000, 2: 2_000_000}
    arrivals = [*(arrival(number, 5 + number) for number in range(29)), arrival(12, 90), arrival(12, 91)]
    found = compare(sent_ns, arrivals, 1)
    assert (found.lost, found.duplicates) == (1, 2)
    # The first request is the warm-up: it must arrive, but its milliseconds are not counted.
    assert found.waits_ms == [*(14.0 + number for number in range(10)), *(23.0 + number for number in range(9))]
