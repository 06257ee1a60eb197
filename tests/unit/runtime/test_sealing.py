"""Sealing as runtime does it: whom the index names, what a sealed log still knows, what retention destroys, and the reserve."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Signal
from typing import Any

import msgspec
import pytest

from conosco.collect.mentions import mentioned
from conosco.collect.understand import understand
from conosco.engines.sqlite.log import SqliteLog
from conosco.engines.sqlite.log_archive import SqliteArchive
from conosco.model.command import LinkIdentifiers
from conosco.model.definition import Source
from conosco.model.event import Event
from conosco.model.identifier import Identifier, IdentityRules
from conosco.model.record import Draft, Envelope, Record
from conosco.ports.log import LogFull
from conosco.ports.tables import META, QUARANTINE, decode_row
from conosco.runtime.reserve import ReservedLog, reserve_bytes, reserve_check
from conosco.runtime.retention import Retention
from conosco.runtime.sealing import Sealing, Stopping, identifier_hash, identify_with
from tests.laws.harness import SECRET, Installation
from tests.laws.histories import DAY, START

SOURCE = Source(key="shop", name="Shop", type="server", region="eu", id="src_a")


def read(record: Record) -> list[Event]:
    return [each for each in understand(record, SOURCE, IdentityRules()) if isinstance(each, Event)]


class SealedInstallation(Installation):
    """An installation whose log lies in small files."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.archive = SqliteArchive(folder, lambda: self.now, part_bytes=60_000)
        super().__init__(log=SqliteLog(folder, lambda: self.now, segment_bytes=100_000))
        self.define({"kind": "purpose", "key": "operations", "name": "o", "basis": "legitimate_interest", "id": "prp_1"})
        self.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})

    def seal(self) -> int:
        sealing = Sealing(self.archive, identify_with(read, SECRET), lambda: False, self._note)
        count = 0
        while sealing.seal_next():
            count += 1
        return count

    def find(self, namespace: str, value: str) -> list[tuple[int, int]]:
        return self.archive.find([identifier_hash(SECRET, Identifier(namespace, value))], identify_with(read, SECRET))

    def counters(self) -> dict[str, int]:
        return dict(decode_row(META, self.state.get_many(META, [("counters",)])[("counters",)]).value)

    def close(self) -> None:
        self.archive.close()
        self.log.close()


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[SealedInstallation]:
    installation = SealedInstallation(tmp_path / "log")
    yield installation
    installation.close()


def event(number: int, **more: Any) -> dict[str, Any]:
    said = {"type": "track", "event": "Seen", "messageId": f"m{number}", "userId": f"u{number % 5}"}
    return {**said, "properties": {"text": str(number) * 500}, **more}


def test_a_message_that_was_sealed_is_still_known_after_more_than_8_days(installation: SealedInstallation) -> None:
    for number in range(200):
        installation.send(event(number), event(number + 1_000))
    installation.settle()
    assert installation.seal() > 2
    assert installation.counters()["applied"] == 400
    installation.now += 9 * DAY
    installation.restart()
    installation.send(event(3), event(1_004))
    # Another body with the same id: it is compared with the one in the sealed file.
    installation.send(event(5, properties={"text": "other"}))
    installation.settle()
    counters = installation.counters()
    assert (counters["applied"], counters["duplicates"], counters["quarantined"]) == (400, 2, 1)
    ((_, row),) = list(installation.rows(QUARANTINE))
    assert row.reason == "conflicting_duplicate"


def test_everything_that_mentions_a_person_is_in_the_index(installation: SealedInstallation) -> None:
    first = installation.send(event(1, userId="ada", traits={"email": "ignored@by.tracks"}), event(2))
    identify = {"type": "identify", "messageId": "i1", "anonymousId": "a1", "traits": {"email": " Ada@Example.com "}}
    second = installation.send(identify)
    broken = installation.send({"type": "no such type", "userId": "ada", "context": {"traits": {"phone": "+39 02 1234567"}}})
    alias = installation.send({"type": "alias", "messageId": "al", "userId": "ada", "previousId": "old"})
    link = LinkIdentifiers(
        link_id="l", kind="manual_same", left=Identifier("user_id", "ada"), right=Identifier("email", "ada@example.com")
    )
    linked = installation.command(link)
    envelope = msgspec.json.encode(Envelope(received_at=START, header_anonymous_id="head"))
    headed = installation.log.append([Draft(kind="request", source_id="src_a", slices=(envelope, b'{"type":"page"}'))])[
        0
    ].position

    def check() -> None:
        assert installation.find("user_id", "ada") == [(first, 1), (broken, 1), (alias, 1), (linked, 0)]
        assert installation.find("email", "ada@example.com") == [(second, 1), (linked, 0)]
        assert installation.find("phone", "+39021234567") == [(broken, 1)]
        assert installation.find("user_id", "old") == installation.find("anonymous_id", "old") == [(alias, 1)]
        assert installation.find("anonymous_id", "head") == [(headed, 0), (headed, 1)]
        assert installation.find("user_id", "nobody") == []

    check()
    for number in range(300):
        installation.send(event(number + 50, userId="someone"))
    assert installation.seal() > 0
    check()


def test_bodies_that_cannot_be_read_mention_nobody() -> None:
    for body in (b"", b"[", b"[1]", b'"ada"', b"\xff", b'{"userId": null, "traits": 3}', b'{"userId": true}', b"[" * 5_000):
        assert mentioned(body) == []
    assert mentioned(b'{"userId": 7, "traits": {"email": "x"}}') == [Identifier("user_id", "7")]


def test_sealing_stops_when_told_and_yields_to_questions(installation: SealedInstallation) -> None:
    for number in range(300):
        installation.send(event(number))
    asked = [5]

    def is_asked() -> bool:
        asked[0] -= 1
        return asked[0] > 0

    sealing = Sealing(installation.archive, identify_with(read, SECRET), is_asked, installation._note)
    assert sealing.seal_next()
    assert asked[0] <= 0
    stopped = Signal()
    stopped.set()
    sealing.run(stopped)
    with pytest.raises(Stopping):
        sealing.seal_next()
    assert [fields["number"] for name, fields in installation.notes if name == "sealed"] == [1]


def test_retention_previews_and_destroys_only_what_is_old_and_settled(installation: SealedInstallation) -> None:
    installation.send(event(0, type="no such type"))
    for number in range(1, 200):
        installation.send(event(number))
    installation.settle()
    sealed = installation.seal()
    last = installation.archive.stock()[sealed - 1].last
    installation.now += 40 * DAY
    for number in range(500, 700):
        installation.send(event(number))
    installation.settle()
    installation.seal()
    settled = [last - 1]

    def retention(days: int) -> Retention:
        return Retention(
            installation.log, installation.archive, installation.state, days, lambda: installation.now, lambda: settled[0]
        )

    assert retention(0).plan()[0].requests == 0
    assert retention(0).run(lambda: None) == 0
    assert retention(60).plan()[0].requests == 0
    assert retention(30).plan()[0].files == sealed - 1
    settled[0] = installation.worker.position
    before = installation.log.read(0, 10_000)
    plan = retention(30).plan()[0]
    assert (plan.files, plan.until_position) == (sealed, last)
    assert installation.log.read(0, 10_000) == before
    passing = retention(30)
    assert passing.run(lambda: None) == plan.events + plan.requests
    assert retention(30).plan()[0].requests == 0
    assert retention(30).run(lambda: None) == 0
    after = installation.log.read(0, 10_000)
    assert [record.hashes for record in after] == [record.hashes for record in before]
    for now, then in zip(after, before, strict=True):
        is_kept = then.kind != "request" or then.position > last or then.position == 3
        assert now.slices == (then.slices if is_kept else (None,) * len(then.slices)), then.position
    assert installation.log.verify() == []
    # What was quarantined can still be replayed, and what comes again is still a duplicate.
    installation.send(event(7))
    installation.settle()
    assert installation.counters()["duplicates"] == 1
    assert {each.reason for each in retention(30).plan()[1:]} == {
        "kept_until_replayed",
        "proves_who_was_contacted",
        "refills_the_warehouse",
        "recognises_what_is_sent_again",
    }


def test_the_reserve_is_asked_before_each_append(installation: SealedInstallation, tmp_path: Path) -> None:
    assert reserve_bytes(100 << 30, None) == (100 << 30) * 2 // 100
    assert reserve_bytes(5 << 30, None) == 256 << 20
    assert reserve_bytes(96 << 20, None) == (96 << 20) // 10
    assert reserve_bytes(96 << 20, 7) == 7 << 20
    assert reserve_check(tmp_path, 0)() == 0
    assert reserve_check(tmp_path, 1 << 40)() > 0
    missing = [0]
    log = ReservedLog(installation.log, lambda: missing[0])
    log.append([Draft(kind="tick")])
    head = log.head()
    missing[0] = 1
    with pytest.raises(LogFull):
        log.append([Draft(kind="tick")])
    assert (log.head(), log.verify(), log.count(0)) == (head, [], 0)
    assert log.erase([(1, 0)]) == 1
    missing[0] = 0
    assert log.append([Draft(kind="tick")])[0].position == head.position + 1
