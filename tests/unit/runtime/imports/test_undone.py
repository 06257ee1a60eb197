"""Why an imported event is no more: its import was taken back, or its person was erased."""

import json

import msgspec

from conosco.model.command import UndoImport
from conosco.model.record import IMPORTED, Draft, Envelope
from conosco.ports.tables import FEED
from conosco.runtime.imports import undone
from tests.laws.harness import Installation


def imported(installation: Installation, import_id: str, *message_ids: str) -> int:
    envelope = msgspec.json.encode(Envelope(received_at=installation.now, import_id=import_id))
    bodies = [
        json.dumps({"type": "track", "event": "Order", "userId": f"u-{told}", "messageId": told}).encode() for told in message_ids
    ]
    draft = Draft(kind="request", source_id="src_a", flags=IMPORTED, slices=(envelope, *bodies))
    return installation.log.append([draft])[0].position


def reasons(installation: Installation) -> dict[tuple[int, int], str]:
    return {
        (told["position"], told["slot"]): told["reason"]
        for _, row in installation.rows(FEED)
        for told in msgspec.msgpack.decode(row.body).get("outcomes", ())
    }


def made() -> Installation:
    installation = Installation()
    installation.define({"kind": "source", "key": "shop", "name": "s", "type": "server", "region": "eu", "id": "src_a"})
    return installation


def test_an_erased_person_in_an_import_of_one_event_is_no_undone_import() -> None:
    shop = made()
    alone, pair, kept = (imported(shop, f"imp_{name}", *ids) for name, ids in (("a", "1"), ("b", "23"), ("c", "4")))
    shop.log.erase([(alone, 1), (pair, 2)])
    shop.settle()
    assert reasons(shop) == {(alone, 0): "erased_person", (pair, 1): "erased_person"}
    assert shop.counters()["accepted"] == 4 and shop.counters()["erased"] == 2 and kept


def test_an_import_that_was_taken_back_says_so_and_no_other_does() -> None:
    shop = made()
    person, first = imported(shop, "imp_a", "1"), imported(shop, "imp_b", "2", "3")
    shop.command(UndoImport(import_id="imp_b"))
    second = imported(shop, "imp_c", "4")
    shop.command(UndoImport(import_id="imp_c"))
    shop.log.erase([(person, 1), (first, 1), (first, 2), (second, 1)])
    shop.settle()
    undone = dict.fromkeys([(first, 0), (first, 1), (second, 0)], "import_undone")
    assert reasons(shop) == {(person, 0): "erased_person", **undone}


def test_the_log_is_looked_through_once_however_many_imports_are_asked_for() -> None:
    shop = made()
    asked = [imported(shop, f"imp_{at}", str(at)) for at in range(5)]
    shop.log.erase([(position, 1) for position in asked])
    reads: list[int] = []

    class Counted:
        def read(self, after: int, records: int) -> list[object]:
            reads.append(after)
            return list(shop.log.read(after, records))

    found = undone.UndoneImports(Counted())  # type: ignore[arg-type]  # all that it asks of a log
    assert not any(found.is_of_one(record) for record in shop.log.read(asked[0] - 1, 5))
    assert reads[0] < shop.log.head().position and set(reads[1:]) == {shop.log.head().position}
    shop.command(UndoImport(import_id="imp_4"))
    assert found.is_of_one(shop.log.read(asked[4] - 1, 1)[0])
