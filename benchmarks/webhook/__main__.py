"""How long does it take from an event to the webhook that it causes, and does every one arrive once?"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from benchmarks.load import Load, batches, pace, percentile, post
from benchmarks.serving import Child, Installation, free_port, processor_seconds
from benchmarks.stream import event_of, segments
from benchmarks.table import rewrite
from benchmarks.webhook.sink import Arrival
from conosco.runtime.bootstrap import clock

PER_REQUEST = 10
CONNECTIONS = 16
RATES = (200, 1_000, 2_000)
TARGET_MS = 100
# The first seconds are sent and must arrive, but processes that are just starting up are not what is measured.
WARM_UP_S = 2.0
DRAIN_S = 60.0
ORDER = "Order Completed"


class Found(NamedTuple):
    """What arrived at the sink: milliseconds from just before sending, ascending; events that caused none; repetitions."""

    waits_ms: list[float]
    lost: int
    duplicates: int


def bodies_of(first: int, count: int) -> list[bytes]:
    """Batches of events, each of a person of its own, so that each makes one enter the segment."""
    at = clock()
    return batches((event_of(number, f"order-{number:09d}", at, ORDER) for number in range(first, first + count)), PER_REQUEST)


def compare(sent_ns: dict[int, int], arrivals: list[Arrival], measured_from: int) -> Found:
    """Match arrivals to the requests in which their persons' events were sent."""
    first: dict[int, int] = {}
    duplicates = 0
    for at_ns, _, body in arrivals:
        number = person_of(body)
        if number in first:
            duplicates += 1
        elif number // PER_REQUEST in sent_ns:
            first[number] = at_ns
    waits = [
        (at_ns - sent_ns[number // PER_REQUEST]) / 1e6
        for number, at_ns in first.items()
        if number // PER_REQUEST >= measured_from
    ]
    return Found(sorted(waits), len(sent_ns) * PER_REQUEST - len(first), duplicates)


def person_of(body: bytes) -> int:
    """The number of the person whose entry a webhook tells of."""
    identifiers = msgspec.json.decode(body)["identifiers"]
    anonymous = next(found["value"] for found in identifiers if found["namespace"] == "anonymous_id")
    return int(anonymous.split("-")[1])


def through_conosco(rate: int, seconds: float) -> tuple[Found, Load, dict[str, float]]:
    """Send events to a whole installation, at an even rate, and see what its webhook brings.

    The third is the processor time of each role, in microseconds an event.
    """
    count = int(rate * (WARM_UP_S + seconds)) // PER_REQUEST * PER_REQUEST
    with tempfile.TemporaryDirectory(prefix="bench-webhook-") as folder:
        port, found = free_port(), Path(folder) / "arrivals"
        with Child("benchmarks.webhook.sink", str(port), str(found)) as sink:
            sink.wait_for_port(port)
            with Installation(Path(folder) / "data") as installation:
                define(installation, port)
                requests = [post("/v1/batch", body, installation.write_key) for body in bodies_of(0, count)]
                sent: dict[int, int] = {}
                used = {role: processor_seconds(pid) for role, pid in installation.roles().items()}
                load = uvloop.run(
                    pace(installation.port, requests, rate / PER_REQUEST, CONNECTIONS, sent.__setitem__),
                )
                installation.settle(DRAIN_S)
                wait_for_deliveries(installation, count)
                spent_us = {
                    role: 1e6 * (processor_seconds(pid) - used.get(role, 0.0)) / count
                    for role, pid in installation.roles().items()
                }
        arrivals = msgspec.msgpack.decode(found.read_bytes(), type=list[Arrival])
    if load.failed:
        raise SystemExit(f"{load.failed} requests were not answered 200")
    return compare(sent, arrivals, int(rate * WARM_UP_S) // PER_REQUEST), load, spent_us


def define(installation: Installation, port: int) -> None:
    """A segment that one event enters, a webhook for it, and 49 other live segments."""
    made = {"buyers": {"kind": "did", "event": ORDER}} | {f"s{number:03d}": where for number, where in enumerate(segments(49))}
    for key, where in made.items():
        installation.define(
            "segments", {"key": key, "name": key, "purpose": "operations", "spec": {"language": 1, "where": where}}
        )
    spec = {"url": f"http://127.0.0.1:{port}/", "allow_private": True, "events": ["segment.entered"], "segments": ["buyers"]}
    installation.define(
        "destinations",
        {"key": "sink", "name": "Sink", "purposes": ["operations"], "region": "eu", "type": "webhook", "spec": spec},
    )


def wait_for_deliveries(installation: Installation, count: int) -> None:
    """Wait until so many deliveries are delivered, or none has been for as long as is allowed."""
    deadline = time.monotonic() + DRAIN_S
    question = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
    while time.monotonic() < deadline:
        if installation.client.ask("POST", "/api/sql", {"sql": question, "params": []})["rows"][0][0] >= count:
            return
        time.sleep(0.5)


def directly(rate: int, seconds: float, body: bytes) -> Load:
    """The floor: a POST to the sink for each event, at the same rate, with nothing in between."""
    with tempfile.TemporaryDirectory(prefix="bench-webhook-") as folder:
        port = free_port()
        with Child("benchmarks.webhook.sink", str(port), str(Path(folder) / "arrivals")) as sink:
            sink.wait_for_port(port)
            requests = [post("/", body)] * int(rate * seconds)
            return uvloop.run(pace(port, requests, rate, CONNECTIONS, lambda number, at_ns: None))


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    rows = []
    spent_us: dict[str, float] = {}
    for rate in RATES:
        found, load, spent_us = through_conosco(rate, seconds if rate == RATES[-1] else seconds / 2)
        example = msgspec.json.encode(
            {
                "type": "segment.entered",
                "segment": "buyers",
                "identifiers": [{"namespace": "anonymous_id", "value": "a-00000000"}],
            }
        )
        floor = directly(rate, seconds / 4, example)
        asked_s = (load.answered - 1) * PER_REQUEST / rate
        rows.append(
            [
                f"{rate:,}",
                f"{percentile(found.waits_ms, 0.5):,.1f}",
                f"{percentile(found.waits_ms, 0.99):,.1f}",
                f"{TARGET_MS}" if rate == RATES[-1] else "",
                f"{percentile(found.waits_ms, 1):,.1f}",
                f"{floor.percentile(0.5):.2f}",
                f"{floor.percentile(0.99):.2f}",
                f"{percentile(found.waits_ms, 0.99) / floor.percentile(0.99):,.0f}",
                str(found.lost),
                str(found.duplicates),
                f"{asked_s / load.seconds:.2f}",
            ]
        )
    header = [
        "events/s",
        "p50 ms",
        "p99 ms",
        "target",
        "max ms",
        "floor p50 ms",
        "floor p99 ms",
        "p99 in floors",
        "lost",
        "duplicates",
        "rate kept",
    ]
    notes = [
        f"Requests of {PER_REQUEST} events on {CONNECTIONS} connections; {WARM_UP_S:g} s at the start of each row are sent and "
        f"must arrive, but are not in the milliseconds. 50 live segments. Lost is counted {DRAIN_S:g} s after the last event.",
        f"Processor time at {RATES[-1]:,}/s, us an event: "
        + ", ".join(f"{role} {spent:.0f}" for role, spent in sorted(spent_us.items()))
        + ".",
    ]
    rewrite(Path(__file__).parent, header, rows, notes)


if __name__ == "__main__":
    main()
