"""The embedded Warehouse keeps the promises of its door, in a file and in memory, and is locked down besides."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from conosco.engines.duckdb.warehouse import BROKEN, FILE, DuckWarehouse, WarehouseInUse
from conosco.ports.warehouse import QueryFailed, Warehouse
from conosco.testing.conformance.warehouse import WarehouseSuite, ask, event, identifier, outcome, rows

# How the file is laid out: three headers, then blocks with a checksum each.
BLOCKS_BEGIN = 3 * 4_096
BLOCK_BYTES = 262_144
# What would reach files, the network, settings, the catalog or the engine's own state.
HOSTILE = [
    ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
    ("SELECT * FROM read_text('/etc/passwd')", "read_text"),
    ("SELECT * FROM read_parquet('x.parquet')", "read_parquet"),
    ("SELECT * FROM glob('/*')", "glob"),
    ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
    ("FROM 'events.csv'", "events.csv"),
    ('SELECT * FROM "/etc/passwd"', "/etc/passwd"),
    ("ATTACH 'other.db'", ""),
    ("INSTALL httpfs", ""),
    ("LOAD httpfs", ""),
    ("COPY events TO 'out.csv'", ""),
    ("COPY (SELECT 1) TO 'out.csv'", ""),
    ("EXPORT DATABASE 'out'", ""),
    ("PRAGMA database_list", ""),
    ("SET memory_limit = '100GB'", ""),
    ("SET enable_external_access = true", ""),
    ("RESET lock_configuration", ""),
    ("CHECKPOINT", ""),
    ("CALL duckdb_settings()", ""),
    ("SHOW TABLES", "show_ref"),
    ("DESCRIBE events", "show_ref"),
    ("SUMMARIZE events", "show_ref"),
    ("SELECT * FROM (DESCRIBE events)", "show_ref"),
    ("SELECT * FROM duckdb_settings()", "duckdb_settings"),
    ("SELECT * FROM duckdb_tables", "duckdb_tables"),
    ("SELECT * FROM pg_catalog.pg_tables", "pg_catalog.pg_tables"),
    ("SELECT * FROM sqlite_master", "sqlite_master"),
    ("SELECT * FROM computed.orders", "computed.orders"),
    ("SELECT * FROM warehouse.main.events", "warehouse.main.events"),
    ("SELECT current_setting('temp_directory')", "current_setting"),
    ("SELECT getvariable('x')", "getvariable"),
    ("SELECT pg_sleep(1000)", "pg_sleep"),
    ("SELECT 'x'.pg_typeof()", "pg_typeof"),
    ("SELECT * FROM query('SELECT * FROM store.events')", "query"),
    ("SELECT * FROM query_table('store.events')", "query_table"),
    ("SELECT * FROM json_execute_serialized_sql('{}')", "json_execute_serialized_sql"),
    # A step named like a relation of the catalog would let its name through elsewhere.
    ("SELECT * FROM (WITH duckdb_tables AS (SELECT 1) SELECT * FROM duckdb_tables), duckdb_tables", "duckdb_tables"),
    ("SELECT * FROM (WITH identifiers_now AS (SELECT 1) SELECT * FROM identifiers_now)", "identifiers_now"),
    # What one call may make is bounded, for the engine does not count it.
    ("SELECT repeat('x', 1000000000)", "repeat"),
    ("SELECT length(repeat('x', 1000 * 1000 * 1000))", "repeat"),
    ("SELECT len(range(1000000000))", "range"),
    ("SELECT lpad('x', 1000000000, 'y')", "lpad"),
    ("SELECT printf('%1000000000d', 1)", "printf"),
    ("SELECT levenshtein(event, type) FROM events", "levenshtein"),
]
# Trusted code is not read first, but the database has no doors for it either.
OUTSIDE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "ATTACH 'other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "COPY (SELECT 1) TO 'out.csv'",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "SELECT * FROM local_rows",
]
ALLOWED = [
    "SELECT * FROM main.events",
    "FROM events SELECT count(*)",
    "SELECT 1 -- ; DROP TABLE store.events",
    "SELECT ';' AS text;",
    "WITH mine AS (SELECT * FROM events), yours AS (SELECT * FROM mine) SELECT * FROM yours JOIN mine USING (position)",
    "WITH RECURSIVE up AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM up WHERE n < 5) SELECT max(n) FROM up",
    "SELECT * FROM unnest([1, 2]) UNION ALL SELECT * FROM range(1000000) LIMIT 5",
    "SELECT json_extract(properties, '$.a'), row_number() OVER (PARTITION BY home_value ORDER BY event_at) FROM events",
    "SELECT * FROM (PIVOT events ON type IN ('track') USING count(*) GROUP BY event)",
    "SELECT date_trunc('month', event_at), count(*) FILTER (WHERE type = 'track') FROM events GROUP BY ROLLUP (1)",
    "SELECT lpad('7', 3, '0'), list_transform([1, 2], lambda x: x + 1), CAST('1' AS INTEGER), now()",
    "VALUES (1), (2)",
]


class TestWarehouseFile(WarehouseSuite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> Iterator[Warehouse]:
        warehouse = DuckWarehouse(tmp_path / "warehouse", memory_limit_mb=256)
        yield warehouse
        warehouse.close()


class TestWarehouseInMemory(WarehouseSuite):
    """The same engine without a file, as throw-away rebuilds use it."""

    @pytest.fixture
    def door(self) -> Iterator[Warehouse]:
        warehouse = DuckWarehouse(None, memory_limit_mb=256)
        yield warehouse
        warehouse.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[DuckWarehouse]:
    """A warehouse that only questions are asked of, whatever they are."""
    warehouse = DuckWarehouse(None, memory_limit_mb=256)
    warehouse.append(1, {"events": [event(1)], "identifier_versions": [identifier(1, "ada", "pro_a")]}, 1)
    yield warehouse
    assert rows(warehouse, "SELECT profile_id FROM events") == [("pro_a",)]
    warehouse.close()


@pytest.mark.parametrize(("sql", "named"), HOSTILE)
def test_what_is_hostile_is_refused_by_name(shared: DuckWarehouse, sql: str, named: str) -> None:
    with pytest.raises(QueryFailed) as failure:
        ask(shared, sql)
    assert failure.value.code == "query_refused"
    assert named in str(failure.value.params["name"])
    assert rows(shared, "SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_the_database_itself_is_locked_down(shared: DuckWarehouse, sql: str) -> None:
    local_rows = [(1,)]
    with pytest.raises(QueryFailed) as failure:
        ask(shared, sql, trusted=True)
    assert failure.value.code == "query_failed"
    assert local_rows and rows(shared, "SELECT count(*) FROM events") == [(1,)]


@pytest.mark.parametrize("sql", ALLOWED)
def test_honest_questions_are_answered(shared: DuckWarehouse, sql: str) -> None:
    assert ask(shared, sql).as_of == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "(SELECT " * 3_000 + "1" + ")" * 3_000,
        "SELECT " + "NOT " * 20_000 + "true",
        "SELECT 1" + " + 1" * 20_000,
        "SELECT " + "[" * 20_000,
        "SELECT '" + "x" * 200_000 + "'",
        "SELECT \x00",
        "\ufeffSELECT",
    ],
    ids=["parentheses", "subqueries", "negations", "sums", "brackets", "long", "nul", "mark"],
)
def test_shapes_that_break_parsers_are_refused(shared: DuckWarehouse, sql: str) -> None:
    with pytest.raises(QueryFailed) as failure:
        ask(shared, sql)
    assert failure.value.code in ("query_refused", "query_unreadable")
    assert rows(shared, "SELECT count(*) FROM events") == [(1,)]


def test_an_aggregate_beyond_the_memory_limit_fails_alone(shared: DuckWarehouse) -> None:
    with pytest.raises(QueryFailed) as failure:
        ask(shared, "SELECT list(number) FROM range(1000000000) AS numbers(number)")
    assert failure.value.code == "query_out_of_memory"
    with pytest.raises(QueryFailed) as failure:
        ask(shared, "SELECT repeat('x', 100000) FROM range(900)")
    assert failure.value.code == "answer_too_large"
    assert rows(shared, "SELECT count(*) FROM events") == [(1,)]


def test_runaway_work_is_interrupted(shared: DuckWarehouse) -> None:
    endless = "WITH RECURSIVE up AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM up) SELECT max(n) FROM up"
    for sql in ("SELECT count(*) FROM range(1000000000) AS a, range(1000000) AS b", endless):
        with pytest.raises(QueryFailed) as failure:
            ask(shared, sql, timeout_s=0.2)
        assert failure.value.code == "query_timeout"
    assert rows(shared, "SELECT count(*) FROM events") == [(1,)]


def test_every_kind_of_value_can_be_told(shared: DuckWarehouse) -> None:
    told = rows(
        shared,
        "SELECT TIMESTAMPTZ '2024-01-02 03:04:05+01', DATE '2024-01-02', TIME '03:04:05', INTERVAL 90 SECOND, BLOB 'a', "
        "[1.5, NULL], {'a': DATE '2024-01-02'}, MAP {'k': 2}, CAST('nan' AS DOUBLE), 1e308 * 10, UUID "
        '\'00000000-0000-0000-0000-000000000001\', 18446744073709551616, true, \'x\' AS "a ""quoted"" name"',
    )
    assert told == [
        (
            "2024-01-02T02:04:05Z",
            "2024-01-02",
            "03:04:05",
            "PT90S",
            "YQ==",
            [1.5, None],
            {"a": "2024-01-02"},
            {"k": 2},
            None,
            None,
            "00000000-0000-0000-0000-000000000001",
            2**64,
            True,
            "x",
        )
    ]


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    first = DuckWarehouse(tmp_path)
    first.append(1, {"events": [event(1)]}, 1)
    first.define({"orders": "SELECT 'pro_a' AS profile_id, '1' AS value"})
    first.close()
    again = DuckWarehouse(tmp_path)
    assert (again.last_batch(), rows(again, "SELECT position FROM events")) == (1, [(1,)])
    assert rows(again, "SELECT name FROM traits") == [("orders",)]
    again.close()


def test_an_acknowledged_batch_survives_a_kill(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from conosco.engines.duckdb.warehouse import DuckWarehouse
        from conosco.testing.conformance.warehouse import event
        warehouse = DuckWarehouse(Path(sys.argv[1]))
        for batch in range(1, 4):
            warehouse.append(batch, {"events": [event(batch)]}, batch)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=False)
    assert done.returncode == -9
    warehouse = DuckWarehouse(tmp_path)
    assert warehouse.last_batch() == 3
    assert rows(warehouse, "SELECT count(*) FROM events") == [(3,)]
    warehouse.close()


def test_one_process_owns_the_folder(tmp_path: Path) -> None:
    owner = DuckWarehouse(tmp_path)
    with pytest.raises(WarehouseInUse):
        DuckWarehouse(tmp_path)
    owner.close()
    DuckWarehouse(tmp_path).close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "half", "header"])
def test_a_file_that_cannot_be_opened_is_moved_aside(tmp_path: Path, damage: str) -> None:
    first = DuckWarehouse(tmp_path)
    first.append(1, {"events": [event(position) for position in range(5_000)]}, 1)
    first.close()
    file = tmp_path / FILE
    whole = file.read_bytes()
    broken = {
        "garbage": b"garbage" * 1_000,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "header": whole[:4_096] + b"\xff" * 8_192 + whole[12_288:],
    }[damage]
    file.write_bytes(broken)
    again = DuckWarehouse(tmp_path)
    assert again.last_batch() == 0
    assert (tmp_path / (FILE + BROKEN)).read_bytes() == broken
    again.append(1, {"events": [event(1)]}, 1)
    assert rows(again, "SELECT position FROM events") == [(1,)]
    again.close()


def test_rot_inside_the_file_is_noticed_when_read_and_begun_anew(tmp_path: Path) -> None:
    first = DuckWarehouse(tmp_path)
    texts = [event(position, message_id=os.urandom(16).hex()) for position in range(20_000)]
    first.append(1, {"events": texts}, 1)
    first.close()
    file = tmp_path / FILE
    whole = file.read_bytes()
    codes = []
    for at in range(BLOCKS_BEGIN + BLOCK_BYTES // 2, len(whole), BLOCK_BYTES):
        rotten = bytearray(whole)
        rotten[at] ^= 1
        file.write_bytes(rotten)
        again = DuckWarehouse(tmp_path)
        try:
            if again.last_batch():
                ask(again, "SELECT max(message_id), max(event_at), max(position) FROM store.events", trusted=True)
        except QueryFailed as failure:
            codes.append(failure.code)
            assert (tmp_path / (FILE + BROKEN)).read_bytes() == rotten
            assert again.last_batch() == 0
            again.append(1, {"events": [event(1)]}, 1)
            assert rows(again, "SELECT position FROM events") == [(1,)]
        again.close()
    assert set(codes) == {"warehouse_broken"}


def test_a_deleted_person_is_in_no_file(tmp_path: Path) -> None:
    warehouse = DuckWarehouse(tmp_path)
    secret = "Wanda Forgotten 7351"
    gone = [event(position, secret, properties=f'{{"name":"{secret}"}}') for position in range(3_000)]
    kept = [event(position, "bob") for position in range(3_000, 6_000)]
    versions = [identifier(1, secret, "pro_w"), identifier(1, "bob", "pro_b", ordinal=1)]
    warehouse.append(1, {"events": gone + kept, "identifier_versions": versions}, 6_000)
    warehouse.define({"orders": "SELECT 'pro_b' AS profile_id, '1' AS value"})
    assert warehouse.delete_person([("user_id", secret)]) == 3_001
    assert rows(warehouse, "SELECT count(*), min(home_value) FROM events") == [(3_000, "bob")]
    assert rows(warehouse, "SELECT name FROM traits") == [("orders",)]
    warehouse.append(2, {"outcome_versions": [outcome(3_000, "applied", 6_001)]}, 6_001)
    warehouse.close()
    found = [file.name for file in tmp_path.iterdir() if secret.encode() in file.read_bytes()]
    assert found == []
    again = DuckWarehouse(tmp_path)
    assert (again.last_batch(), rows(again, "SELECT count(*) FROM events")) == (2, [(3_000,)])
    again.close()
