"""The suite of the Warehouse door: idempotent appends, the documented tables, exact answers, and nothing but questions."""

import threading
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from conosco.model.ids import derived
from conosco.ports.warehouse import Answer, QueryFailed, Warehouse

NOON = 1_700_049_600_000_000
NOON_TEXT = "2023-11-15T12:00:00Z"
SECRET = b"an installation secret"
# The columns that a documented table must have at least.
DOCUMENTED: dict[str, str] = {
    "events": "position slot message_id source_id type event home_namespace home_value profile_id event_at logged_at "
    "received_at sent_at original_at historical user_id anonymous_id group_id properties traits context schema automated",
    "profiles": "profile_id first_seen_at last_seen_at identifier_count",
    "identifiers": "profile_id namespace value first_seen_at",
    "links": "left_namespace left_value right_namespace right_value kind first_seen_at position evidence refused_by "
    "retracted_position link_id",
    "traits": "profile_id name value kind source_id observed_at",
    "memberships": "profile_id segment entered_at exited_at because backfill position",
    "consents": "profile_id purpose status given_at",
    "enrollments": "profile_id journey entered_at",
    "decisions": "profile_id decided_at",
    "deliveries": "delivery_id destination profile_id segment type state attempts code",
    "visits": "visit_id profile_id device_namespace device_value started_at ended_at duration_seconds events pages entry_page "
    "exit_page entry_referrer utm_source utm_medium utm_campaign utm_term utm_content click_id first_touch last_touch browser "
    "browser_version os os_version device country source_id",
    "objects": "kind object_id state first_seen_at last_seen_at changed_at",
    "object_history": "kind object_id name value previous changed_at source_id message_id position slot",
    "object_people": "kind object_id profile_id role first_at last_at",
    "outcomes": "message_id source_id outcome reason position slot decided_at",
}
# What is no question, or asks for what is not documented.
REFUSED = (
    "",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE store.events",
    "DROP TABLE store.events",
    "DELETE FROM store.events",
    "UPDATE store.events SET type = 'x'",
    "INSERT INTO store.events SELECT * FROM store.events",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE VIEW mine AS SELECT 1",
    "ALTER TABLE store.events ADD COLUMN mine INTEGER",
    "WITH gone AS (DELETE FROM events RETURNING *) SELECT * FROM gone",
    "BEGIN",
    "EXPLAIN SELECT 1",
    "SELECT * FROM store.events",
    'SELECT * FROM "store"."events"',
    "SELECT * FROM events, store.progress",
    "SELECT (SELECT count(*) FROM store.events)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM store.events)",
    "SELECT 1 FROM events UNION ALL SELECT 1 FROM store.events",
    "WITH mine AS (SELECT * FROM store.events) SELECT * FROM mine",
    "SELECT /* only */ * FROM -- a comment\n store.events",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM (WITH mine AS (SELECT 1) SELECT * FROM mine) AS inner_one, information_schema.tables",
)


def event(position: int, home: str = "ada", **changes: Any) -> dict[str, Any]:
    """A row of store.events."""
    return {
        "position": position,
        "slot": 0,
        "message_id": f"message {position}",
        "source_id": "src_1",
        "type": "track",
        "event": "Order Completed",
        "home_namespace": "user_id",
        "home_value": home,
        "event_at": NOON + position,
        "logged_at": NOON + position,
        "received_at": NOON + position,
        "sent_at": None,
        "original_at": None,
        "historical": False,
        "user_id": home,
        "anonymous_id": None,
        "group_id": None,
        "properties": "{}",
        "traits": "{}",
        "context": "{}",
        "property_keys": "{}",
        "schema": 1,
        **changes,
    }


def observation(position: int, name: str, value: str, home: str = "ada", **changes: Any) -> dict[str, Any]:
    """A row of store.observations."""
    return {
        "position": position,
        "slot": 0,
        "home_namespace": "user_id",
        "home_value": home,
        "name": name,
        "value": value,
        "value_keys": "{}",
        "priority": 0,
        "event_at": NOON + position,
        "source_id": "src_1",
        "message_id": f"message {position}",
        **changes,
    }


def identifier(position: int, value: str, profile_id: str, namespace: str = "user_id", ordinal: int = 0) -> dict[str, Any]:
    """A row of store.identifier_versions."""
    return {
        "namespace": namespace,
        "value": value,
        "profile_id": profile_id,
        "first_seen_at": NOON,
        "position": position,
        "ordinal": ordinal,
    }


def membership(position: int, profile_id: str, exited_at: int | None = None, entered_position: int = 1) -> dict[str, Any]:
    """A row of store.membership_versions."""
    return {
        "profile_id": profile_id,
        "segment": "buyers",
        "entered_at": NOON,
        "exited_at": exited_at,
        "because": '{"cause":"event"}',
        "exit_because": None,
        "backfill": False,
        "entered_position": entered_position,
        "ordinal": 0,
        "position": position,
    }


def outcome(position: int, kind: str, changed_position: int) -> dict[str, Any]:
    """A row of store.outcome_versions."""
    return {
        "position": position,
        "slot": 0,
        "message_id": f"message {position}",
        "source_id": "src_1",
        "outcome": kind,
        "reason": kind,
        "decided_at": NOON,
        "attempts": 1,
        "changed_position": changed_position,
    }


def touch(position: int, minute: float, home: str = "ada", **changes: Any) -> dict[str, Any]:
    """A row of store.touches, a page call on a phone at a minute after noon; what is left out is not told."""
    return {
        "position": position,
        "slot": 0,
        "device_namespace": "anonymous_id",
        "device_value": "phone",
        "home_namespace": "user_id",
        "home_value": home,
        "event_at": NOON + round(minute * 60_000_000),
        "source_id": "src_1",
        "message_id": f"message {position}",
        "is_page": True,
        **changes,
    }


def observed(position: int, name: str, value: str, home: str = "ada", **changes: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows that say of the order o1, of which ``home`` is the buyer, that a property has a value."""
    row = {
        "position": position,
        "slot": 0,
        "kind": "order",
        "object_id": "o1",
        "home_namespace": "user_id",
        "home_value": home,
        "event_at": NOON + position,
        "source_id": "src_1",
        "message_id": f"message {position}",
        **changes,
    }
    return {"object_mentions": [{**row, "role": "buyer"}], "object_observations": [{**row, "name": name, "value": value}]}


def ask(door: Warehouse, sql: str, *params: Any, trusted: bool = False, max_rows: int = 1_000, timeout_s: float = 60) -> Answer:
    """Ask with wide limits."""
    return door.query(sql, params, max_rows=max_rows, timeout_s=timeout_s, trusted=trusted)


def rows(door: Warehouse, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """The rows of an untrusted question."""
    return ask(door, sql, *params).rows


class WarehouseSuite:
    """Promises of every Warehouse. Give it ``door`` (an empty one)."""

    def test_every_documented_table_is_there_from_the_start_and_empty(self, door: Warehouse) -> None:
        for table, columns in DOCUMENTED.items():
            answer = ask(door, f"SELECT * FROM {table}")
            assert (table, answer.rows) == (table, [])
            assert set(columns.split()) <= set(answer.columns)

    def test_an_append_is_seen_whole_and_says_as_of_when(self, door: Warehouse) -> None:
        assert door.last_batch() == 0
        door.append(3, {"events": [event(7), event(8)], "identifier_versions": [identifier(7, "ada", "pro_a")]}, 8)
        answer = ask(door, "SELECT position, profile_id FROM events ORDER BY position")
        assert (answer.columns, answer.rows, answer.as_of) == (("position", "profile_id"), [(7, "pro_a"), (8, "pro_a")], 8)
        assert door.last_batch() == 3

    def test_a_batch_that_comes_again_changes_nothing(self, door: Warehouse) -> None:
        door.append(2, {"events": [event(1)]}, 1)
        door.append(2, {"events": [event(1)]}, 1)
        door.append(1, {"events": [event(2)]}, 9)
        assert rows(door, "SELECT position FROM events") == [(1,)]
        assert ask(door, "SELECT 1").as_of == 1

    def test_a_batch_that_fails_leaves_nothing(self, door: Warehouse) -> None:
        with pytest.raises(ValueError, match="mood"):
            door.append(1, {"events": [event(1)], "observations": [{**observation(1, "a", "1"), "mood": 1}]}, 1)
        with pytest.raises(ValueError, match="moods"):
            door.append(1, {"events": [event(1)], "moods": [{}]}, 1)
        assert rows(door, "SELECT * FROM events") == []
        assert door.last_batch() == 0

    def test_an_empty_batch_moves_on(self, door: Warehouse) -> None:
        door.append(4, {}, 40)
        assert (door.last_batch(), ask(door, "SELECT 1").as_of) == (4, 40)

    def test_texts_come_back_as_they_were_put(self, door: Warehouse) -> None:
        texts = ["", "'", '"', "\\", "\x00", "a\nb\tc", "żółć 😀", "?; DROP TABLE x --", "{}", "null"]
        spelled = [msgspec.json.encode({"note": text, "price": 1.10}).decode() for text in texts]
        added = [
            event(position, message_id=text, properties=properties)
            for position, (text, properties) in enumerate(zip(texts, spelled, strict=True))
        ]
        door.append(1, {"events": added}, 1)
        assert rows(door, "SELECT message_id, properties FROM events ORDER BY position") == list(zip(texts, spelled, strict=True))
        assert [rows(door, "SELECT position FROM events WHERE message_id = ?", text) for text in texts] == [
            [(position,)] for position in range(len(texts))
        ]

    def test_times_are_utc_and_limits_hold(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(1, event_at=NOON, sent_at=NOON + 1, original_at=-62_135_596_800_000_000)]}, 1)
        assert rows(door, "SELECT event_at, sent_at, original_at, event_at + INTERVAL 1 DAY FROM events") == [
            (NOON_TEXT, "2023-11-15T12:00:00.000001Z", "0001-01-01T00:00:00Z", "2023-11-16T12:00:00Z")
        ]
        assert rows(
            door, "SELECT 1 FROM events WHERE event_at >= ? AND event_at < ?", NOON_TEXT, "2023-11-15T13:00:00+00:00"
        ) == [(1,)]

    def test_numbers_come_back_exact(self, door: Warehouse) -> None:
        big = 10**30 + 1
        exact = Decimal("12345678901234567890.123456")
        sql = (
            f"SELECT {big}, CAST('{exact}' AS DECIMAL(38, 6)), CAST('2.50' AS DECIMAL(38, 6)), CAST('3' AS DECIMAL(38, 6)), NULL"
        )
        assert rows(door, sql) == [(big, exact, 2.5, 3, None)]

    def test_parameters_are_values_and_never_sql(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(1)]}, 1)
        assert rows(door, "SELECT position FROM events WHERE event = ?", "x' OR '1'='1") == []
        assert rows(door, "SELECT CAST(? AS INTEGER) + 1, ? IS NULL", 2, None) == [(3, True)]

    # What is current -----------------------------------------------------------------------------------------------------

    def test_identifiers_are_those_of_the_newest_version(self, door: Warehouse) -> None:
        door.append(1, {"identifier_versions": [identifier(1, "ada", "pro_a"), identifier(1, "bob", "pro_b", ordinal=1)]}, 1)
        door.append(2, {"identifier_versions": [identifier(5, "bob", "pro_b"), identifier(5, "bob", "pro_a", ordinal=1)]}, 5)
        assert rows(door, "SELECT value, profile_id FROM identifiers ORDER BY value") == [("ada", "pro_a"), ("bob", "pro_a")]
        assert rows(door, "SELECT profile_id, identifier_count, first_seen_at FROM profiles") == [("pro_a", 2, NOON_TEXT)]

    def test_an_identifier_of_nobody_is_not_shown(self, door: Warehouse) -> None:
        door.append(1, {"identifier_versions": [identifier(1, "ada", "pro_a")], "events": [event(1)]}, 1)
        door.append(2, {"identifier_versions": [identifier(2, "ada", "")]}, 2)
        assert rows(door, "SELECT * FROM identifiers") == []
        assert rows(door, "SELECT profile_id FROM events") == [(None,)]

    def test_events_move_with_their_home_identifier(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(1)], "identifier_versions": [identifier(1, "ada", "pro_a")]}, 1)
        door.append(2, {"identifier_versions": [identifier(2, "ada", "pro_b")]}, 2)
        assert rows(door, "SELECT profile_id FROM events") == [("pro_b",)]
        assert rows(door, "SELECT profile_id, last_seen_at FROM profiles") == [("pro_b", "2023-11-15T12:00:00.000001Z")]

    def test_the_winning_observation_is_the_trait(self, door: Warehouse) -> None:
        contested = [
            observation(1, "plan", '"gold"', priority=1),
            observation(2, "plan", '"silver"'),
            observation(4, "city", '"Rome"'),
            observation(3, "city", '"Pisa"'),
            observation(5, "age", "1.50", event_at=NOON, source_id="a"),
            observation(6, "age", "2.50", event_at=NOON, source_id="b"),
            observation(7, "left", '"x"'),
            observation(8, "left", "null"),
        ]
        versions = [identifier(1, "ada", "pro_a"), identifier(1, "bob", "pro_a", ordinal=1)]
        door.append(
            1, {"observations": [*contested, observation(9, "city", '"Bari"', home="bob")], "identifier_versions": versions}, 9
        )
        assert rows(door, "SELECT profile_id, name, value, kind FROM traits ORDER BY name") == [
            ("pro_a", "age", "2.50", "declared"),
            ("pro_a", "city", '"Bari"', "declared"),
            ("pro_a", "plan", '"gold"', "declared"),
        ]

    def test_memberships_show_the_newest_version_of_each_stay(self, door: Warehouse) -> None:
        door.append(1, {"membership_versions": [membership(1, "pro_a"), membership(1, "pro_b")]}, 1)
        door.append(2, {"membership_versions": [membership(4, "pro_a", NOON + 5), membership(4, "pro_a", entered_position=4)]}, 4)
        assert rows(door, "SELECT profile_id, exited_at, position FROM memberships ORDER BY ALL") == [
            ("pro_a", "2023-11-15T12:00:00.000005Z", 1),
            ("pro_a", None, 4),
            ("pro_b", None, 1),
        ]

    def test_an_event_has_one_current_outcome(self, door: Warehouse) -> None:
        door.append(1, {"outcome_versions": [outcome(1, "quarantined", 1), outcome(2, "applied", 2)]}, 2)
        door.append(2, {"outcome_versions": [outcome(1, "quarantined", 5), outcome(1, "applied", 6)]}, 6)
        assert rows(door, "SELECT position, outcome FROM outcomes ORDER BY position") == [(1, "applied"), (2, "applied")]

    def test_a_late_version_of_the_past_does_not_become_current(self, door: Warehouse) -> None:
        door.append(1, {"outcome_versions": [outcome(1, "applied", 9)]}, 9)
        door.append(2, {"outcome_versions": [outcome(1, "quarantined", 4)]}, 9)
        assert rows(door, "SELECT outcome FROM outcomes") == [("applied",)]

    # Visits and objects --------------------------------------------------------------------------------------------------

    def test_a_visit_ends_with_a_pause_of_more_than_half_an_hour(self, door: Warehouse) -> None:
        door.append(1, {"touches": [touch(1, 0), touch(2, 30), touch(3, 60.000001), touch(4, 61, device_value="desk")]}, 4)
        assert rows(door, "SELECT device_value, started_at, events, duration_seconds FROM visits ORDER BY started_at") == [
            ("phone", NOON_TEXT, 2, 1_800),
            ("phone", "2023-11-15T13:00:00.000060Z", 1, 0),
            ("desk", "2023-11-15T13:01:00Z", 1, 0),
        ]

    def test_a_late_touch_joins_visits_and_the_first_gives_its_name(self, door: Warehouse) -> None:
        door.append(1, {"touches": [touch(1, 0), touch(2, 40)]}, 2)
        before = rows(door, "SELECT visit_id FROM visits ORDER BY started_at")
        door.append(2, {"touches": [touch(3, 20)]}, 3)
        assert rows(door, "SELECT visit_id, events FROM visits") == [(before[0][0], 3)]

    def test_a_visit_tells_of_pages_campaigns_and_the_device(self, door: Warehouse) -> None:
        told = [
            touch(1, 0, is_page=False, browser="Firefox", os="Linux", device="desktop"),
            touch(2, 1, page="https://a.example/", referrer="https://b.example/", country="IT"),
            touch(3, 2, page="https://a.example/x", utm_source="news", click_id="gclid"),
            touch(4, 3, page="https://a.example/y", utm_campaign="spring", browser="Chrome"),
            touch(5, 4),
        ]
        door.append(1, {"touches": list(reversed(told))}, 5)
        answer = ask(door, "SELECT * FROM visits")
        found = dict(zip(answer.columns, answer.rows[0], strict=True))
        assert (found["events"], found["pages"], found["entry_page"], found["exit_page"], found["entry_referrer"]) == (
            5, 4, "https://a.example/", "https://a.example/y", "https://b.example/",
        )  # fmt: skip
        assert (found["utm_source"], found["click_id"], found["utm_campaign"]) == ("news", "gclid", None)
        assert (found["browser"], found["os"], found["device"], found["country"]) == ("Firefox", "Linux", "desktop", "IT")
        last = msgspec.json.decode(found["last_touch"])
        assert (last["at"], last["campaign"], last["source"]) == ("2023-11-15T12:03:00.000000Z", "spring", None)
        assert msgspec.json.decode(found["first_touch"])["click_id"] == "gclid"

    def test_visits_on_a_shared_device_are_one_persons_each_and_follow_them(self, door: Warehouse) -> None:
        versions = [identifier(1, "ada", "pro_a"), identifier(1, "bob", "pro_b", ordinal=1)]
        door.append(1, {"touches": [touch(1, 0), touch(2, 1, "bob"), touch(3, 2)], "identifier_versions": versions}, 3)
        assert rows(door, "SELECT profile_id, events FROM visits ORDER BY profile_id") == [("pro_a", 2), ("pro_b", 1)]
        door.append(2, {"identifier_versions": [identifier(5, "bob", "pro_a")]}, 5)
        assert rows(door, "SELECT profile_id, events FROM visits") == [("pro_a", 3)]
        then = ask(
            door, "SELECT profile_id, events FROM store.visits_as_of(?, ?) ORDER BY ALL", NOON + 60_000_000, 4, trusted=True
        )
        assert then.rows == [("pro_a", 1), ("pro_b", 1)]

    def test_an_object_has_the_latest_observation_of_each_property(self, door: Warehouse) -> None:
        door.append(1, {"identifier_versions": [identifier(1, "ada", "pro_a"), identifier(1, "bob", "pro_b", ordinal=1)]}, 1)
        for batch, told in enumerate(
            (
                observed(5, "status", '"paid"'),
                observed(2, "status", '"new"', "bob"),
                observed(3, "total", "12345678901234567890.50"),
                observed(4, "note", "null"),
            ),
            2,
        ):
            door.append(batch, told, 5)
        assert rows(door, "SELECT object_id, state, epoch_us(changed_at), epoch_us(first_seen_at) FROM objects") == [
            ("o1", '{"status":"paid","total":12345678901234567890.50}', NOON + 5, NOON + 2)
        ]
        assert rows(door, "SELECT name, value, previous FROM object_history ORDER BY changed_at") == [
            ("status", '"new"', None),
            ("total", "12345678901234567890.50", None),
            ("status", '"paid"', '"new"'),
        ]
        assert rows(door, "SELECT profile_id, role, epoch_us(last_at) FROM object_people ORDER BY 1") == [
            ("pro_a", "buyer", NOON + 5),
            ("pro_b", "buyer", NOON + 2),
        ]
        then = ask(door, "SELECT state FROM store.objects_as_of(?, ?)", NOON + 4, 9, trusted=True)
        assert then.rows == [('{"status":"new","total":12345678901234567890.50}',)]

    def test_what_is_told_as_of_a_moment_may_not_be_asked_untrusted(self, door: Warehouse) -> None:
        with pytest.raises(QueryFailed):
            ask(door, "SELECT * FROM store.visits_as_of(1, 1)")

    # Computed traits -----------------------------------------------------------------------------------------------------

    def test_computed_traits_join_the_declared_ones_and_are_replaced(self, door: Warehouse) -> None:
        door.append(
            1, {"identifier_versions": [identifier(1, "ada", "pro_a")], "observations": [observation(1, "city", '"Rome"')]}, 1
        )
        counted = "SELECT profile_id, CAST(count(*) AS VARCHAR) AS value FROM store.identifier_versions GROUP BY profile_id"
        door.define({"orders": counted})
        expected = [("city", '"Rome"', "declared"), ("orders", "1", "computed")]
        assert rows(door, "SELECT name, value, kind FROM traits ORDER BY name") == expected
        door.define({"visits": counted, "blanks": "SELECT 'pro_a' AS profile_id, CAST(NULL AS VARCHAR) AS value"})
        assert rows(door, "SELECT name FROM traits ORDER BY name") == [("city",), ("visits",)]
        door.define({})
        assert rows(door, "SELECT name FROM traits") == [("city",)]

    def test_a_definition_that_cannot_be_taken_changes_nothing(self, door: Warehouse) -> None:
        door.define({"orders": "SELECT 'pro_a' AS profile_id, '1' AS value"})
        for views in ({"orders": "SELECT nothing FROM nowhere"}, {'x" AS SELECT 1; --': "SELECT 1"}):
            with pytest.raises(QueryFailed):
                door.define(views)
        assert rows(door, "SELECT name, value FROM traits") == [("orders", "1")]

    # Limits ---------------------------------------------------------------------------------------------------------------

    def test_only_one_question_over_documented_tables_is_taken(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(1)]}, 1)
        for sql in REFUSED:
            with pytest.raises(QueryFailed) as failure:
                ask(door, sql)
            assert (sql, failure.value.code) in ((sql, "query_refused"), (sql, "query_unreadable"))
        assert rows(door, "SELECT count(*) FROM events") == [(1,)]

    def test_a_trusted_question_reads_all_and_changes_nothing(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(1)]}, 1)
        assert ask(door, "SELECT position FROM store.events", trusted=True).rows == [(1,)]
        with pytest.raises(QueryFailed):
            ask(door, "DELETE FROM store.events", trusted=True)
        assert rows(door, "SELECT count(*) FROM events") == [(1,)]

    def test_nonsense_is_told_as_such(self, door: Warehouse) -> None:
        for sql, code in (("SELEC 1", "query_unreadable"), ("SELECT nothing FROM events", "query_failed")):
            with pytest.raises(QueryFailed) as failure:
                ask(door, sql)
            assert failure.value.code == code
            assert failure.value.params["detail"]

    def test_too_many_rows_are_refused_and_exactly_as_many_are_not(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(position) for position in range(12)]}, 12)
        assert len(ask(door, "SELECT * FROM events", max_rows=12).rows) == 12
        with pytest.raises(QueryFailed) as failure:
            ask(door, "SELECT * FROM events", max_rows=11)
        assert (failure.value.code, failure.value.params) == ("too_many_rows", {"limit": 11})

    def test_a_runaway_question_is_stopped_and_others_go_on(self, door: Warehouse) -> None:
        door.append(1, {"events": [event(position) for position in range(2_000)]}, 2_000)
        tables = ", ".join(f"events AS e{index}" for index in range(8))
        asked = threading.Event()
        failures: list[QueryFailed] = []

        def run_away() -> None:
            asked.set()
            try:
                ask(door, f"SELECT count(*) FROM {tables} WHERE e0.position + e7.position > e3.position", timeout_s=0.5)
            except QueryFailed as failure:
                failures.append(failure)

        running = threading.Thread(target=run_away)
        running.start()
        asked.wait()
        door.append(2, {"events": [event(5_000)]}, 5_000)
        assert rows(door, "SELECT count(*) FROM events") == [(2_001,)]
        running.join()
        assert [failure.code for failure in failures] == ["query_timeout"]

    # People ---------------------------------------------------------------------------------------------------------------

    def test_a_person_is_deleted_with_all_that_is_only_theirs(self, door: Warehouse) -> None:
        link = {
            "left_namespace": "user_id",
            "left_value": "ada",
            "right_namespace": "email",
            "right_value": "ada@mail.example",
            "kind": "observed",
            "first_seen_at": NOON,
            "position": 1,
            "link_id": "",
            "changed_position": 1,
        }
        door.append(
            1,
            {
                "events": [event(1), event(2, "bob")],
                "observations": [observation(1, "city", '"Rome"')],
                "identifier_versions": [
                    identifier(1, "ada", "pro_a"),
                    identifier(1, "ada@mail.example", "pro_a", "email", 1),
                    identifier(2, "bob", "pro_b"),
                ],
                "link_versions": [link],
                "membership_versions": [membership(1, "pro_a"), membership(2, "pro_b")],
                "outcome_versions": [outcome(1, "applied", 1), outcome(2, "applied", 2)],
            },
            2,
        )
        assert door.delete_person([("user_id", "ada"), ("email", "ada@mail.example")]) == 6
        assert rows(door, "SELECT home_value FROM events") == [("bob",)]
        assert rows(door, "SELECT profile_id FROM memberships") == [("pro_b",)]
        assert rows(door, "SELECT message_id, outcome FROM outcomes ORDER BY position") == [
            (None, "applied"),
            ("message 2", "applied"),
        ]
        assert rows(door, "SELECT profile_id FROM profiles") == [("pro_b",)]
        assert rows(door, "SELECT * FROM links") == rows(door, "SELECT * FROM traits") == []
        assert ask(door, "SELECT warehoused FROM store.progress", trusted=True).rows == [(1,)]
        assert door.last_batch() == 1

    def test_visits_and_what_was_said_of_objects_go_with_a_person(self, door: Warehouse) -> None:
        tables = {name: [*mine, *theirs] for (name, mine), theirs in zip(
            observed(1, "note", '"mine"').items(), observed(2, "status", '"new"', "bob").values(), strict=True
        )}  # fmt: skip
        door.append(1, {**tables, "touches": [touch(1, 0), touch(2, 0, "bob")]}, 2)
        assert door.delete_person([("user_id", "ada")]) == 3
        assert rows(door, "SELECT state FROM objects") == [('{"status":"new"}',)]
        assert rows(door, "SELECT events FROM visits") == [(1,)]

    def test_a_profile_that_has_other_identifiers_keeps_its_memberships(self, door: Warehouse) -> None:
        versions = [identifier(1, "ada", "pro_a"), identifier(1, "eva", "pro_a", ordinal=1)]
        door.append(1, {"identifier_versions": versions, "membership_versions": [membership(1, "pro_a")]}, 1)
        assert door.delete_person([("user_id", "ada")]) == 1
        assert rows(door, "SELECT profile_id FROM memberships") == [("pro_a",)]
        assert door.delete_person([]) == 0

    def test_a_sample_is_fair_stable_and_nested(self, door: Warehouse) -> None:
        people = [derived("pro", SECRET, number) for number in range(2_000)]
        versions = [identifier(number, str(number), person) for number, person in enumerate(people)]
        door.append(1, {"identifier_versions": versions}, 1)

        def sampled(fraction: float) -> set[Any]:
            return {
                row[0] for row in ask(door, f"SELECT profile_id FROM profiles WHERE {door.sample(fraction)}", max_rows=5_000).rows
            }

        tenth, half = sampled(0.1), sampled(0.5)
        assert tenth < half
        assert 120 < len(tenth) < 280
        assert 880 < len(half) < 1_120
        assert (sampled(0.0), sampled(1.0)) == (set(), set(people))

    def test_clearing_forgets_everything(self, door: Warehouse) -> None:
        door.append(5, {"events": [event(1)]}, 7)
        door.define({"orders": "SELECT 'pro_a' AS profile_id, '1' AS value"})
        door.clear()
        assert door.last_batch() == 0
        assert rows(door, "SELECT * FROM events") == rows(door, "SELECT * FROM traits") == []
        door.append(1, {"events": [event(1)]}, 1)
        assert rows(door, "SELECT position FROM events") == [(1,)]
