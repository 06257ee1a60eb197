"""Bombs through every entrance: small things that would become large. Each is refused, and nobody's memory grows with it.

The milliseconds and megabytes are printed, not asserted: they belong to a machine that does nothing else. Run with ``-s``.
"""

import gzip
import io
import itertools
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.running.good_requests import HOOK_SOURCE
from tests.running.installation import Answer, Installation, is_settled
from tests.unit.collect.files.workbooks import workbook

# The target is 50 MB. What is asserted has room for what the processes do besides.
GROWTH_MB_MAX = 120
LEVELS = 200_000
KEYS = 1_000_000
MEGABYTE = 1 << 20


def zipped(body: bytes, levels: int) -> bytes:
    """A zip archive in a zip archive, and so on."""
    for _ in range(levels):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.zip", body)
        body = file.getvalue()
    return body


def in_an_event(properties: bytes) -> bytes:
    return b'{"batch":[{"type":"track","event":"E","userId":"bomber","properties":' + properties + b"}]}"


NOTHING = bytes(100 * MEGABYTE)
MANY_KEYS = b"{" + b",".join(b'"k%d":1' % number for number in range(KEYS)) + b"}"
GZIP = gzip.compress(NOTHING)
# Bodies of requests, and what is answered to them: at tracking and at webhooks, and at the management API.
BODIES: dict[str, bytes] = {
    "gzip": GZIP,
    "gzip of JSON": gzip.compress(in_an_event(b'"' + NOTHING.replace(b"\0", b"a") + b'"')),
    "gzip in gzip": gzip.compress(GZIP),
    "many gzip members": gzip.compress(b" " * 1_000) * 50_000,
    "zip": zipped(NOTHING, 1),
    "zip in zip": zipped(NOTHING, 3),
    "deep lists": b"[" * LEVELS + b"]" * LEVELS,
    "deep objects": b'{"a":' * LEVELS + b"1" + b"}" * LEVELS,
    "deep properties": in_an_event(b"[" * LEVELS + b"]" * LEVELS),
    "a million keys": MANY_KEYS,
    "a million keys, zipped": gzip.compress(MANY_KEYS),
}
FILES: dict[str, Callable[[], bytes]] = {
    "rows.csv.gz": lambda: gzip.compress(b"id;name\n" + NOTHING),
    "rows.jsonl.gz": lambda: gzip.compress(b'{"id": "' + NOTHING.replace(b"\0", b"a") + b'"}\n'),
    "nested.gz": lambda: gzip.compress(GZIP),
    "bomb.xlsx": lambda: workbook([["id"], ["x"]], extra=NOTHING),
    "nested.xlsx": lambda: zipped(NOTHING, 3),
    "footer.parquet": lambda: b"PAR1" + bytes(20 * MEGABYTE) + (20 * MEGABYTE).to_bytes(4, "little") + b"PAR1",
    "deep.jsonl": lambda: BODIES["deep objects"] + b"\n",
    "keys.jsonl": lambda: MANY_KEYS + b"\n",
    "columns.csv": lambda: b",".join(b"c" for _ in range(KEYS)) + b"\n",
}


class Growth(NamedTuple):
    """By how many megabytes the busiest moment of each role lay above where it began."""

    front: float
    worker: float
    warehouse: float


class Bombed:
    """An installation whose memory is watched."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.roles = installation.pids()
        self.hook = f"/webhooks/tickets/{installation.post('/api/sources', HOOK_SOURCE)['write_key']}"
        self.entrances: dict[str, Callable[[bytes], Answer]] = {
            "tracking": installation.track,
            "track": lambda body: installation.track(body, "/v1/track"),
            "webhook": lambda body: installation.ask("POST", self.hook, body),
            "management": lambda body: installation.api("POST", "/api/segments/preview", body, {"Content-Encoding": "gzip"}),
            "sign-in": lambda body: installation.ask("POST", "/api/session", body, {"Content-Type": "application/json"}),
        }
        self.told: list[str] = []

    def watch(self, name: str, send: Callable[[], Answer]) -> Answer:
        """Send, and note how long the answer took and by how much memory grew at its most."""
        before = {role: memory_mb(self.roles[role], "VmRSS") for role in Growth._fields}
        for role in Growth._fields:
            # From here on the kernel's mark of the most is today's.
            Path(f"/proc/{self.roles[role]}/clear_refs").write_text("5")
        begun = time.monotonic()
        answer = send()
        took_ms = 1_000 * (time.monotonic() - begun)
        growth = Growth(*(memory_mb(self.roles[role], "VmHWM") - before[role] for role in Growth._fields))
        self.told.append(
            f"{name}: {answer.status} in {took_ms:,.0f} ms; front +{growth.front:.0f}, worker +{growth.worker:.0f} MB"
        )
        assert max(growth) < GROWTH_MB_MAX, self.told
        return answer


def memory_mb(pid: int, name: str) -> float:
    """A figure of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1_024


@pytest.fixture(scope="module")
def bombed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bombed]:
    """One installation for all bombs."""
    with Installation(tmp_path_factory.mktemp("bombs")) as installation:
        installation.settled()
        made = Bombed(installation)
        yield made
        print("\n" + "\n".join(made.told))


def check_sound(bombed: Bombed) -> None:
    """All that was there is there, and a good event goes through."""
    assert bombed.installation.pids() == bombed.roles
    good: Any = {"batch": [{"type": "track", "event": "After", "userId": "u", "messageId": f"after-{next(NUMBERS)}"}]}
    assert bombed.installation.track(good).status == 200
    assert is_settled(bombed.installation.settled())


NUMBERS = itertools.count()


def test_a_bomb_as_the_body_of_a_request(bombed: Bombed) -> None:
    for (name, body), (entrance, send) in itertools.product(BODIES.items(), bombed.entrances.items()):
        answer = bombed.watch(f"{name}, {entrance}", lambda send=send, body=body: send(body))  # type: ignore[misc]  # mypy knows no defaults of lambdas
        # A webhook takes what is JSON and within its limits; what it means is asked later, and it is kept aside then.
        taken = entrance == "webhook" and answer.status == 200
        assert taken or 400 <= answer.status < 500, (name, entrance, answer)
    bombed.installation.settled()
    applied = bombed.installation.sql("select count(*) from outcomes where outcome = 'applied' and message_id not like 'after-%'")
    assert applied == [[0]]
    check_sound(bombed)


@pytest.mark.parametrize("name", FILES)
def test_a_bomb_as_a_file(bombed: Bombed, name: str) -> None:
    sent = bombed.watch(f"upload of {name}", lambda: bombed.installation.api("POST", f"/api/uploads?name={name}", FILES[name]()))
    assert sent.status == 201, sent
    asked = {"upload": json.loads(sent.body)["upload"]}
    preview = "/api/imports/preview?wait_ms=30000"
    answer = bombed.watch(f"preview of {name}", lambda: bombed.installation.api("POST", preview, asked))
    if answer.status == 200:
        # What is wrong with one row is told of that row.
        told = answer.json()
        assert (told["accepted"], told["rejected"]) == (0, told["rows_read"]), told
    else:
        assert answer.status == 422, answer
    assert bombed.installation.pids() == bombed.roles
