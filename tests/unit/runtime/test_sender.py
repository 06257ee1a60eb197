"""The sender against real receivers on the loopback address, with the worker's part played by hand."""

import asyncio
import ipaddress
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from conosco.activate.outbox import read_intent, retry, settle
from conosco.activate.stage import activate, make_test
from conosco.connectors.destinations import webhook
from conosco.connectors.outbound import Limits, Outbound
from conosco.engines.memory.leases import MemoryLeases
from conosco.engines.memory.log import MemoryLog
from conosco.engines.memory.state import MemoryState
from conosco.govern.gate import Gate
from conosco.model.definition import Destination
from conosco.model.delivery import Attempt, MembershipChange
from conosco.model.moment import HOUR, MINUTE, SECOND
from conosco.model.record import Draft
from conosco.ports.leases import Take
from conosco.ports.log import Appended, LogFull
from conosco.ports.tables import OUTBOX, OUTBOX_DUE, OutboxRow, decode_row, encode_row
from conosco.ports.work import Work
from conosco.runtime.sender import Sender
from conosco.runtime.sender_pace import BackOff, Pace, Patience
from tests.unit.connectors.receiver import Answering, Received, Receiver, receiving, saying, status

SECRET = b"installation secret of 32 bytes."
SIGNING = webhook.spell_secret(b"k" * 32)
GATE = Gate(SECRET)
QUICK = BackOff(base_us=1_000, cap_us=2_000, attempts_max=4)
BRIEF = Patience(base_us=1_000, cap_us=2_000)
PACE = Pace(put_off_s=0.01, log_retry_s=0.01, stop_s=0.3)


def clock() -> int:
    return time.time_ns() // 1_000


class House:
    """A State, a Log and Leases, and the destinations and secrets of one installation."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.log: Any = MemoryLog(clock)
        self.leases = MemoryLeases()
        self.destinations: dict[str, Destination] = {}
        self.secrets: dict[str, bytes] = {"signing": SIGNING.encode()}
        self.outbound_limits = Limits()
        self.applied = 0
        self.made = 0

    def destination(self, key: str, receiver: Receiver, **fields: Any) -> None:
        self.destinations[key] = Destination(
            **{
                "key": key,
                "id": f"dst_{key}",
                "name": key,
                "purposes": ("operations",),
                "region": "eu",
                "type": "webhook",
                "secret_name": "signing",
                "spec": {"url": receiver.url, "allow_private": True},
                **fields,
            }
        )

    def decide(self, count: int, *keys: str, age_us: int = 0) -> list[str]:
        """Let this many people enter a segment that the destinations want; the ids of their deliveries."""
        work = Work(self.state)
        changes = []
        for _ in range(count):
            self.made += 1
            identifiers = (("user_id", f"u{self.made}"),)
            changes.append(
                MembershipChange(
                    type="segment.entered",
                    segment="regulars",
                    purpose="operations",
                    profile_id=f"pro_{self.made}",
                    anchor=f"user_id:u{self.made}",
                    identifiers=identifiers,
                    at=clock(),
                    because={"cause": "event"},
                    position=self.made,
                    live=True,
                )
            )
        chosen = [self.destinations[key] for key in keys or self.destinations]
        versions = activate(work, changes, chosen, GATE, SECRET, clock() - age_us)
        self.commit(work)
        return [version["delivery_id"] for version in versions]

    def commit(self, work: Work) -> None:
        self.state.begin(1)
        work.flush()
        self.state.commit(None)

    def apply(self) -> None:
        """The worker's part: settle what is in the log."""
        work = Work(self.state)
        for record in self.log.read(self.applied, 1_000):
            for body in record.slices:
                settle(work, msgspec.json.decode(body, type=Attempt), record.logged_at)
            self.applied = record.position
        self.commit(work)

    def attempts(self) -> list[Attempt]:
        return [msgspec.json.decode(body, type=Attempt) for record in self.log.read(0, 10_000) for body in record.slices if body]

    def row(self, delivery_id: str) -> OutboxRow:
        row: OutboxRow = decode_row(OUTBOX, self.state.get_many(OUTBOX, [(delivery_id,)])[delivery_id,])
        return row

    def states(self) -> Counter[str]:
        return Counter(decode_row(OUTBOX, raw).state for _, raw in self.state.scan(OUTBOX, max_rows=10_000))

    @asynccontextmanager
    async def sending(
        self,
        pace: Pace = PACE,
        back_off: BackOff = QUICK,
        patience: Patience = BRIEF,
        connectors: Any = MappingProxyType({webhook.type: webhook}),
    ) -> AsyncIterator[Sender]:
        """A sender at work until the block ends."""
        outbound = Outbound(allow_private_networks=[ipaddress.ip_network("127.0.0.0/8")], limits=self.outbound_limits)
        sender = Sender(
            self.log,
            self.state.reader(),
            self.leases,
            self.destinations.get,
            self.secrets.get,
            GATE,
            outbound,
            clock,
            connectors=connectors,
            back_off=back_off,
            patience=patience,
            pace=pace,
            chance=random.Random(1),
        )
        stop = asyncio.Event()
        running = asyncio.create_task(sender.run(stop))
        try:
            yield sender
        finally:
            stop.set()
            await running
            await outbound.close()

    async def until(self, happened: Callable[[], bool], *, apply: bool = True) -> None:
        """Play the worker until something has happened; the limit only ends a test that is broken."""
        async with asyncio.timeout(20):
            while not happened():
                if apply:
                    self.apply()
                await asyncio.sleep(0.002)
        if apply:
            self.apply()


def play(scene: Callable[[House], Awaitable[None]]) -> House:
    house = House()

    async def run() -> None:
        await scene(house)

    asyncio.run(run())
    return house


def only(*said: int) -> Answering:
    """Answer with these statuses in turn, the last one for ever."""
    left = list(said)

    async def answering(received: Received, writer: asyncio.StreamWriter) -> bool:
        return await status(left.pop(0) if len(left) > 1 else left[0])(received, writer)

    return answering


async def silent(_: Received, __: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(60)
    return False


def test_what_is_due_is_sent_once_signed_and_logged() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            made = house.decide(50)
            async with house.sending():
                await house.until(lambda: house.states()["delivered"] == 50)
            assert sorted(receiver.ids()) == sorted(made)
            for request in receiver.requests:
                assert Webhook(SIGNING).verify(request.body, request.headers)["segment"] == "regulars"

    house = play(scene)
    assert house.state.scan(OUTBOX_DUE) == []
    for attempt in house.attempts():
        assert (attempt.attempt, attempt.result, attempt.code) == (1, "delivered", "http_200")
        assert attempt.latency_us > 0
    # Several results share a record, so that a sync is paid for many of them.
    assert house.log.head().position < 50


def test_deliveries_that_come_to_light_late_or_find_no_room_are_sent_too() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            crowded = msgspec.structs.replace(PACE, queued_per_destination_max=10, page_rows=16, sweep_s=0.01)
            async with house.sending(pace=crowded):
                house.decide(100)
                await house.until(lambda: house.states()["delivered"] == 100)
                # A worker that is behind makes rows whose due time has long been passed.
                house.decide(1, age_us=HOUR)
                await house.until(lambda: house.states()["delivered"] == 101)
            assert len(receiver.requests) == 101

    play(scene)


def test_what_becomes_due_is_found_without_walking_over_everything() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            async with house.sending(pace=msgspec.structs.replace(PACE, sweep_s=3_600, page_rows=16)):
                await asyncio.sleep(0.02)
                house.decide(100)
                await house.until(lambda: house.states()["delivered"] == 100)
            assert len(receiver.requests) == 100

    play(scene)


def test_leases_are_given_up_once_the_result_is_applied_and_not_before() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            (delivery_id,) = house.decide(1)
            async with house.sending():
                await house.until(lambda: len(house.attempts()) == 1, apply=False)
                await asyncio.sleep(0.15)
                assert house.leases.lease([Take(delivery_id)], clock() + SECOND, clock()) == [False]
                house.apply()
                await house.until(lambda: house.leases.lease([Take(delivery_id)], clock() + SECOND, clock())[0])

    play(scene)


def test_what_is_logged_but_not_yet_applied_is_not_sent_again() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            house.decide(20)
            # The leases run out at once, so only what this process remembers can keep it from sending again.
            async with house.sending(pace=msgspec.structs.replace(PACE, lease_us=1)):
                await house.until(lambda: len(house.attempts()) == 20, apply=False)
                await asyncio.sleep(0.2)
                assert len(receiver.requests) == 20
                await house.until(lambda: house.states()["delivered"] == 20)
            assert len(receiver.requests) == 20

    play(scene)


def test_a_sender_that_died_between_sending_and_logging_sends_the_same_id_again_after_the_lease() -> None:
    class DeafLog:
        def append(self, drafts: Sequence[Draft]) -> list[Appended]:
            raise LogFull("as good as killed")

    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            (delivery_id,) = house.decide(1)
            kept, house.log = house.log, DeafLog()
            brief = msgspec.structs.replace(PACE, lease_us=300_000, stop_s=0.01)
            async with house.sending(pace=brief):
                await house.until(lambda: len(receiver.requests) == 1, apply=False)
            house.log = kept
            async with house.sending(pace=brief):
                await house.until(lambda: house.states()["delivered"] == 1)
            assert receiver.ids() == [delivery_id] * 2
            assert receiver.requests[0].body == receiver.requests[1].body
            assert int(receiver.requests[0].headers["webhook-timestamp"]) <= clock() // SECOND

    play(scene)


def test_two_senders_share_the_work_and_send_nothing_twice() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            made = house.decide(200)
            async with house.sending(), house.sending():
                await house.until(lambda: house.states()["delivered"] == 200)
            assert sorted(receiver.ids()) == sorted(made)

    play(scene)


def test_failures_are_tried_again_until_they_succeed() -> None:
    async def scene(house: House) -> None:
        async with receiving(only(500, 429, 200)) as receiver:
            house.destination("crm", receiver)
            (delivery_id,) = house.decide(1)
            async with house.sending():
                await house.until(lambda: house.states()["delivered"] == 1)
            assert house.row(delivery_id).attempts == 3

    house = play(scene)
    assert [attempt.code for attempt in house.attempts()] == ["http_500", "http_429", "http_200"]
    assert all(0 <= attempt.due_at - attempt.at <= QUICK.cap_us for attempt in house.attempts()[:2])


def test_after_the_last_attempt_a_delivery_is_dead_and_a_person_can_send_it_again() -> None:
    async def scene(house: House) -> None:
        async with receiving(only(500, 500, 500, 500, 200)) as receiver:
            house.destination("crm", receiver)
            (delivery_id,) = house.decide(1)
            async with house.sending():
                await house.until(lambda: house.states()["dead"] == 1)
                assert house.row(delivery_id).attempts == QUICK.attempts_max
                work = Work(house.state)
                retry(work, delivery_id, clock())
                house.commit(work)
                await house.until(lambda: house.states()["delivered"] == 1)
            assert house.row(delivery_id).attempts == QUICK.attempts_max + 1

    play(scene)


def test_a_dead_destination_does_not_delay_the_others() -> None:
    async def scene(house: House) -> None:
        house.outbound_limits = Limits(total_s=30)
        async with receiving() as healthy, receiving(silent) as dead:
            house.destination("dead", dead)
            house.destination("healthy", healthy)
            # The dead one's deliveries are due first and are more than fit into a page, a queue or all places.
            house.decide(2_000, "dead")
            house.decide(100, "healthy")
            async with house.sending(pace=msgspec.structs.replace(PACE, queued_per_destination_max=300)):
                await house.until(lambda: house.states()["delivered"] == 100)
            assert len(healthy.requests) == 100
            assert len(dead.requests) <= PACE.in_flight_per_destination_max

    house = play(scene)
    assert house.states()["pending"] == 2_000


def test_a_destination_that_keeps_failing_is_left_alone_and_then_tried_by_one_attempt_at_a_time() -> None:
    async def scene(house: House) -> None:
        async with receiving(only(503)) as receiver:
            house.destination("crm", receiver)
            house.decide(200)
            patient = Patience(failures_max=4, base_us=300_000, cap_us=300_000)
            async with house.sending(back_off=BackOff(base_us=HOUR, cap_us=HOUR), patience=patient) as sender:
                await house.until(lambda: sender.lanes["crm"].breaker.state == "open" if sender.lanes else False)
                first = len(receiver.requests)
                assert first <= PACE.in_flight_first
                await house.until(lambda: len(receiver.requests) >= first + 2)
                assert sender.in_flight <= 1

    house = play(scene)
    # Whatever was tried waits; nothing is lost or dead, however long it lasts.
    assert house.states() == {"pending": 200}


def test_a_destination_that_asks_for_a_pause_is_given_it() -> None:
    async def scene(house: House) -> None:
        async with receiving(saying(b"HTTP/1.1 429 Later\r\nRetry-After: 3600\r\ncontent-length: 0\r\n\r\n")) as receiver:
            house.destination("crm", receiver)
            house.decide(100)
            async with house.sending() as sender:
                await house.until(lambda: len(house.attempts()) > 0)
                await asyncio.sleep(0.1)
                assert len(receiver.requests) <= PACE.in_flight_first
                assert sender.lanes["crm"].breaker.until > clock() + 50 * MINUTE
            assert all(attempt.due_at > clock() + 50 * MINUTE for attempt in house.attempts())

    play(scene)


def test_a_destination_that_was_mended_is_tried_at_once() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver, spec={"url": "http://127.0.0.1:1/", "allow_private": True})
            house.decide(20)
            patient = Patience(failures_max=4, base_us=HOUR, cap_us=HOUR)
            pace = msgspec.structs.replace(PACE, recall_s=0.02)
            async with house.sending(pace=pace, patience=patient) as sender:
                await house.until(lambda: sender.lanes["crm"].breaker.state == "open" if sender.lanes else False)
                house.destination("crm", receiver, version=7)
                await house.until(lambda: house.states()["delivered"] == 20)

    play(scene)


def test_a_test_is_sent_while_the_destination_is_left_alone() -> None:
    async def scene(house: House) -> None:
        async with receiving(only(*[500] * 4, 200)) as receiver:
            house.destination("crm", receiver)
            house.decide(4)
            patient = Patience(failures_max=4, base_us=HOUR, cap_us=HOUR)
            slow = BackOff(base_us=HOUR, cap_us=HOUR)
            async with house.sending(back_off=slow, patience=patient) as sender:
                await house.until(lambda: sender.lanes["crm"].breaker.state == "open" if sender.lanes else False)
                work = Work(house.state)
                (version,) = make_test(work, house.destinations["crm"], GATE, SECRET, 99, clock())
                house.commit(work)
                await house.until(lambda: house.row(version["delivery_id"]).state == "delivered")
                assert msgspec.json.decode(receiver.requests[-1].body)["test"] is True
                assert sender.lanes["crm"].breaker.state == "closed"

    play(scene)


def test_the_stop_list_and_other_senders_leases_hold_a_delivery_back() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            stopped, leased, free = house.decide(3)
            house.leases.stop([("user_id", "u1")], None, 1)
            house.leases.lease([Take(leased)], clock() + HOUR, clock())
            async with house.sending():
                await house.until(lambda: house.row(free).state == "delivered")
                await asyncio.sleep(0.05)
                assert receiver.ids() == [free]
                house.leases.release([leased])
                await house.until(lambda: house.row(leased).state == "delivered")
            assert stopped not in receiver.ids()

    play(scene)


def test_nothing_goes_out_without_a_permit_of_this_gate() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            forged, missing, moved = house.decide(3)
            house.state.begin(1)
            for delivery_id, permit in (
                (forged, Gate(b"another secret").permit(forged, GATE.ask("operations", "legitimate_interest"))),
                (missing, None),
                (moved, read_intent(house.row(forged)).permit),
            ):
                row = house.row(delivery_id)
                row.intent = msgspec.msgpack.encode(msgspec.structs.replace(read_intent(row), permit=permit))
                house.state.put_many(OUTBOX, {(delivery_id,): encode_row(row)})
            house.state.commit(None)
            async with house.sending():
                await house.until(lambda: house.states()["dead"] == 3)
            assert receiver.requests == []

    house = play(scene)
    assert {attempt.code for attempt in house.attempts()} == {"permit_invalid"}


def test_a_delivery_that_was_settled_while_it_waited_is_not_sent() -> None:
    class SlowLeases(MemoryLeases):
        """While the lease is being taken, somebody else's success is applied."""

        def __init__(self, house: House) -> None:
            super().__init__()
            self.house = house

        def lease(self, takes: Sequence[Take], until: int, now: int) -> list[bool]:
            work = Work(self.house.state)
            attempt = Attempt(delivery_id=takes[0].delivery_id, attempt=1, result="delivered", code="http_200", at=now)
            settle(work, attempt, now)
            self.house.commit(work)
            return super().lease(takes, until, now)

    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("crm", receiver)
            (delivery_id,) = house.decide(1)
            house.leases = SlowLeases(house)
            async with house.sending():
                await house.until(lambda: house.states()["delivered"] == 1)
                await asyncio.sleep(0.05)
            assert receiver.requests == []
            assert MemoryLeases.lease(house.leases, [Take(delivery_id)], clock() + SECOND, clock()) == [True]

    play(scene)


def test_a_destination_that_cannot_be_reached_by_its_definition_has_a_code_for_it() -> None:
    async def scene(house: House) -> None:
        async with receiving() as receiver:
            house.destination("gone", receiver)
            house.destination("archived", receiver)
            house.destination("keyless", receiver, secret_name="lost")
            house.destination("odd", receiver, type="pigeon")
            house.destination("broken", receiver)
            made = dict(zip(house.destinations, house.decide(1), strict=True))
            del house.destinations["gone"]
            house.destination("archived", receiver, state="archived")
            house.destination("broken", receiver, spec={"url": "nowhere"})
            async with house.sending(back_off=BackOff()):
                await house.until(lambda: len(house.attempts()) == 5)
            told = {key: (house.row(delivery_id).state, house.row(delivery_id).code) for key, delivery_id in made.items()}
            assert told == {
                "gone": ("dead", "destination_gone"),
                "archived": ("dead", "destination_gone"),
                "keyless": ("pending", "secret_missing"),
                "odd": ("pending", "connector_missing"),
                "broken": ("pending", "settings_invalid"),
            }
            assert receiver.requests == []

    play(scene)


def test_a_full_log_loses_no_result_and_repeats_no_delivery() -> None:
    class FullAtFirst(MemoryLog):
        refusals = 5

        def append(self, drafts: Sequence[Draft]) -> list[Appended]:
            if self.refusals:
                self.refusals -= 1
                raise LogFull("disk full")
            return super().append(drafts)

    async def scene(house: House) -> None:
        house.log = FullAtFirst(clock)
        async with receiving() as receiver:
            house.destination("crm", receiver)
            house.decide(30)
            async with house.sending():
                await house.until(lambda: house.states()["delivered"] == 30)
            assert len(receiver.requests) == 30

    assert len(play(scene).attempts()) == 30


def test_stopping_lets_what_is_in_flight_finish_and_reach_the_log() -> None:
    async def slow(received: Received, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.1)
        return await status(200)(received, writer)

    async def scene(house: House) -> None:
        async with receiving(slow) as receiver:
            house.destination("crm", receiver)
            house.decide(40)
            async with house.sending() as sender:
                await house.until(lambda: sender.in_flight == PACE.in_flight_first, apply=False)
            assert sender.in_flight == 0
            assert len(house.attempts()) == len(receiver.requests) < 40

    play(scene)


def test_stopping_does_not_wait_for_ever() -> None:
    async def scene(house: House) -> None:
        async with receiving(silent) as receiver:
            house.destination("crm", receiver)
            house.decide(1)
            async with house.sending() as sender:
                await house.until(lambda: len(receiver.requests) == 1, apply=False)
            assert sender.in_flight == 0

    assert play(scene).attempts() == []


@given(st.integers(1, 200), st.floats(0, 1))
def test_waits_double_up_to_an_hour_and_are_drawn_from_all_of_it(attempt: int, fraction: float) -> None:
    back_off = BackOff()
    wait = back_off.wait_us(attempt, fraction)
    assert 0 <= wait <= min(HOUR, SECOND * 2 ** (attempt - 1))
    assert back_off.wait_us(attempt, 1.0) == min(HOUR, SECOND * 2 ** (attempt - 1))


def test_all_attempts_together_take_about_a_day() -> None:
    back_off = BackOff()
    expected = sum(back_off.wait_us(attempt, 0.5) for attempt in range(1, back_off.attempts_max))
    assert abs(expected - 24 * HOUR) < 30 * MINUTE
