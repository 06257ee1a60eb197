"""What the sender keeps together through failures and kills, and what it never repeats."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from conosco.activate.outbox import retry
from conosco.engines.memory.log import MemoryLog
from conosco.model.delivery import Parcel, Reply
from conosco.model.record import Draft
from conosco.ports.log import Appended, LogFull
from conosco.ports.work import Work
from tests.unit.connectors.receiver import Received, receiving
from tests.unit.runtime.test_sender import PACE, House, clock, only, play


def test_what_may_not_be_repeated_is_parked_when_its_fate_is_unknown() -> None:
    class Letters:
        """A connector whose receiver cannot recognise a repetition; its first attempt never comes back."""

        is_idempotent, writes_files = False, False
        read_settings = staticmethod(lambda spec: spec)
        spell_secret = staticmethod(lambda key: "")
        batch_limits = staticmethod(lambda settings: None)

        def __init__(self) -> None:
            self.sent: list[str] = []

        async def deliver(self, parcel: Parcel, settings: Any, secret: bytes, context: Any) -> Reply:
            self.sent.append(parcel.id)
            if len(self.sent) == 1:
                await asyncio.sleep(60)
            return Reply("delivered", "posted")

    letters = Letters()

    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("post", receiver, type="letter")
            (first,) = house.decide(1)
            brief = msgspec.structs.replace(PACE, lease_us=50_000, stop_s=0.01, recall_s=0.02)
            async with house.sending(pace=brief, connectors={"letter": letters}):
                await house.until(lambda: len(letters.sent) == 1, apply=False)
            (second,) = house.decide(1)
            async with house.sending(pace=brief, connectors={"letter": letters}):
                await house.until(lambda: house.row(first).state == "unknown" and house.row(second).state == "delivered")
            assert (house.row(first).code, letters.sent) == ("lease_expired", [first, second])
            # A person may release it.
            work = Work(house.state)
            retry(work, first, clock())
            house.commit(work)
            async with house.sending(pace=brief, connectors={"letter": letters}):
                await house.until(lambda: house.row(first).state == "delivered")
            assert letters.sent == [first, second, first]

    play(scene)


BATCHED = {"batch": {"events": 10, "wait_ms": 20}}


def batches_of(requests: Sequence[Received]) -> list[tuple[str, tuple[str, ...]]]:
    """The batches in the order in which they came: their ids and those of the deliveries in them."""
    bodies = [msgspec.json.decode(request.body) for request in requests]
    assert [body["batch_id"] for body in bodies] == [request.headers["webhook-id"] for request in requests]
    return [(body["batch_id"], tuple(each["delivery_id"] for each in body["deliveries"])) for body in bodies]


def test_deliveries_go_out_together_where_the_destination_wants_it() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver, spec={"url": receiver.url, "allow_private": True, **BATCHED})
            made = house.decide(25)
            async with house.sending():
                await house.until(lambda: house.states()["delivered"] == 25)
            batches = batches_of(receiver.requests)
            assert sorted(each for _, members in batches for each in members) == sorted(made)
            assert sorted(len(members) for _, members in batches) == [5, 10, 10]

    play(scene)


def test_a_batch_stays_as_it_was_through_failures_and_kills() -> None:
    class Moody(MemoryLog):
        is_deaf = False

        def append(self, drafts: Sequence[Draft]) -> list[Appended]:
            if self.is_deaf:
                raise LogFull("as good as killed")
            return super().append(drafts)

    async def scene(house: House) -> None:
        house.log = Moody(clock)
        async with receiving(only(500, 200)) as receiver:
            house.destination("crm", receiver, spec={"url": receiver.url, "allow_private": True, **BATCHED})
            first = house.decide(7)
            brief = msgspec.structs.replace(PACE, lease_us=100_000, stop_s=0.01, recall_s=0.02)
            async with house.sending(pace=brief):
                await house.until(lambda: len(house.attempts()) >= 7)
                # The second attempt arrives, and nobody hears of it.
                house.log.is_deaf = True
                await house.until(lambda: len(receiver.requests) == 2)
            house.log.is_deaf = False
            assert house.states() == {"pending": 7}
            house.decide(5)
            async with house.sending(pace=brief):
                await house.until(lambda: house.states()["delivered"] == 12)
            batches = batches_of(receiver.requests)
            assert sorted(batches[0][1]) == sorted(first)
            assert batches.count(batches[0]) == 3
            later = [each for batch in set(batches) - {batches[0]} for each in batch[1]]
            assert len(later) == len(set(later)) == 5

    play(scene)
