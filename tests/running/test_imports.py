"""Files in, and out again: previews, imports that are killed and go on, and undoing, asked over the API of a running installation."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import ADMIN_TOKEN, PATIENCE_S, Installation, kill, until

TOKEN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
MAPPING = [
    {
        "type": "track",
        "event": "Order Completed",
        "user_id": {"path": ["customer"], "as": "text"},
        "timestamp": {"path": ["day"]},
        "context": {"traits": {"object": {"email": {"path": ["email"], "as": "email"}}}},
        "properties": {"rest": True},
    }
]
PEOPLE_MAPPING = [
    {
        "type": "identify",
        "user_id": {"path": ["customer"], "as": "text"},
        "timestamp": {"path": ["day"]},
        "traits": {"email": {"path": ["email"], "as": "email"}, "city": {"path": ["city"]}},
    }
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("imports")) as made:
        yield made


def orders(count: int, people: int = 40, tag: str = "c") -> bytes:
    """A delimited file as an Italian shop writes it."""
    rows = (
        f"{tag}{row % people};{tag}{row % people}@example.it;{row % 28 + 1:02d}.03.2024;{row % 7},50;Città\n"
        for row in range(count)
    )
    return ("customer;email;day;amount;city\n" + "".join(rows)).encode()


def send(installation: Installation, body: bytes, name: str = "orders.csv") -> str:
    answer = installation.ask("POST", f"/api/uploads?name={name}", body, TOKEN)
    assert answer.status == 201, answer
    return str(answer.json()["upload"])


def start(installation: Installation, upload: str, mapping: Any = None, **more: Any) -> str:
    asked = {"upload": upload, "source": "default", "mapping": mapping or MAPPING, "basis": "contract", "note": "orders", **more}
    answer = installation.api("POST", "/api/imports", asked)
    assert answer.status == 202, answer
    return str(answer.json()["import_id"])


def ended(installation: Installation, import_id: str, *wanted: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """The import, once it has ended and what it brought is applied."""
    found: dict[str, Any] = {}

    def is_over() -> bool:
        found.update(installation.get(f"/api/imports/{import_id}"))
        over = found["status"] in ("done", "failed", "cancelled", "undone")
        return over and (found["status"] == "undone" or found["applied"] == found["accepted"])

    until(is_over, f"import {import_id} ends", patience_s)
    assert found["status"] in (wanted or ("done",)), found
    return found


def undo(installation: Installation, import_id: str, patience_s: float = PATIENCE_S) -> None:
    answer = installation.api("POST", f"/api/imports/{import_id}/undo", {})
    assert answer.status == 202, answer
    ended(installation, import_id, "undone", patience_s=patience_s)


def test_a_file_is_previewed_imported_and_counted_exactly(installation: Installation) -> None:
    before = installation.settled()
    body = orders(500, tag="exact") + b"broken\n" + b";;05.03.2024;1,00;nobody\n"
    upload = send(installation, gzip.compress(body))
    preview = installation.post("/api/imports/preview?wait_ms=30000", {"upload": upload, "source": "default", "mapping": MAPPING})
    assert preview["status"] == "done"
    columns = {column["name"]: column for column in preview["description"]["format"]["columns"]}
    assert columns["day"] == {"name": "day", "type": "moment", "order": "dmy"}
    assert columns["amount"] == {"name": "amount", "type": "number", "decimal": ","}
    assert (preview["accepted"], preview["rejected"]) == (500, 2)
    assert preview["reasons"] == {"wrong_width": 1, "no_usable_identifier": 1}
    assert preview["events"][0]["properties"] == {"amount": 0.5, "city": "Città"}
    identity = preview["identity"]
    assert (identity["rows"], identity["new"], identity["new_people"], identity["known_people"]) == (500, 500, 40, 0)
    import_id = start(installation, upload)
    made = ended(installation, import_id)
    assert (made["rows_read"], made["accepted"], made["rejected"], made["applied"]) == (502, 500, 2, 500)
    after = installation.settled()
    assert (after["accepted"] - before["accepted"], after["applied"] - before["applied"]) == (500, 500)
    where = "from events where user_id like 'exact%'"
    assert installation.sql(f"select count(*), count(distinct profile_id), bool_and(historical) {where}") == [[500, 40, True]]
    total = installation.sql(f"select sum(cast(properties->>'amount' as decimal(18,2))) {where}")[0][0]
    assert float(total) == sum(row % 7 + 0.5 for row in range(500))
    rejected = installation.api("GET", f"/api/imports/{import_id}/rejected").body.decode().splitlines()
    assert rejected[0] == "row,reason,details,customer,email,day,amount,city"
    assert [line.split(",")[:2] for line in rejected[1:]] == [["501", "wrong_width"], ["502", "no_usable_identifier"]]


def test_the_same_file_again_doubles_nothing_and_another_meaning_of_it_is_refused(installation: Installation) -> None:
    body = orders(100, tag="twice")
    first = ended(installation, start(installation, send(installation, body)))
    second = ended(installation, start(installation, send(installation, body)))
    assert (first["accepted"], second["accepted"]) == (100, 100)
    installation.settled()
    assert installation.sql("select count(*) from events where user_id like 'twice%'") == [[100]]
    other = [{**MAPPING[0], "event": "Something Else"}]
    asked = {"upload": send(installation, body), "source": "default", "mapping": other, "basis": "contract", "note": "orders"}
    answer = installation.api("POST", "/api/imports", asked)
    assert (answer.status, answer.json()["code"]) == (409, "imported_otherwise")


def test_key_columns_tell_rows_apart_across_files(installation: Installation) -> None:
    ended(installation, start(installation, send(installation, orders(28, 28, tag="key")), key=["customer", "day"]))
    ended(installation, start(installation, send(installation, orders(30, 30, tag="key")), key=["customer", "day"]))
    installation.settled()
    assert installation.sql("select count(*) from events where user_id like 'key%'") == [[30]]


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"basis": "because"}, "invalid_choice", 422),
        ({"basis": None}, "wrong_type", 422),
        ({"note": " "}, "note_missing", 422),
        ({"source": "nowhere"}, "not_found", 404),
        ({"upload": "upl_nothing"}, "not_found", 404),
        ({"upload": "", "path": "/etc/passwd"}, "path_not_allowed", 403),
        ({"mapping": []}, "empty_list", 422),
        ({"mapping": [{"type": "track"}], "colour": 1}, "unknown_field", 422),
    ],
)
def test_what_is_wrong_with_an_import_is_told(installation: Installation, change: dict[str, Any], code: str, status: int) -> None:
    asked = {"upload": "upl_any", "source": "default", "mapping": MAPPING, "basis": "contract", "note": "x", **change}
    if change.get("upload") is None:
        asked["upload"] = send(installation, b"a,b\n1,2\n")
    answer = installation.api("POST", "/api/imports", asked)
    assert (answer.status, answer.json()["code"]) == (status, code), answer
    assert answer.json()["title"] != "It did not work"


def test_a_basis_and_a_note_are_required(installation: Installation) -> None:
    asked = {"upload": send(installation, b"a,b\n1,2\n"), "source": "default", "mapping": MAPPING}
    answer = installation.api("POST", "/api/imports", asked)
    assert (answer.status, answer.json()["code"]) == (422, "missing_field")


def test_what_the_file_leaves_open_is_asked_and_not_guessed(installation: Installation) -> None:
    upload = send(installation, b"customer;day\nask1;03/04/2024\nask2;05/06/2024\n")
    preview = installation.post("/api/imports/preview?wait_ms=30000", {"upload": upload})
    (question,) = preview["description"]["questions"]
    assert (question["about"], question["column"], question["choices"]) == ("date_order", "day", ["dmy", "mdy"])
    mapping = [{"type": "track", "event": "X", "user_id": {"path": ["customer"]}, "timestamp": {"path": ["day"]}}]
    failed = ended(installation, start(installation, upload, mapping), "failed")
    assert (failed["problem"], failed["problem_params"]["column"]) == ("format_undecided", "day")
    form = {"columns": [{"name": "day", "type": "moment", "order": "mdy"}]}
    ended(installation, start(installation, upload, mapping, format=form))
    installation.settled()
    found = installation.sql("select event_at from events where user_id = 'ask1'")
    assert found == [["2024-03-04T00:00:00Z"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x00\x01\x02\x03 nothing that is known", "file_kind_unknown"),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n")), "file_is_a_bomb"),
        (b"PAR1 and then no more of it", "file_damaged"),
        (b"PK\x03\x04 and then no more of it", "file_damaged"),
        (b"\xef\xbb\xbf\n", "file_empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_is_refused_in_words(installation: Installation, body: bytes, code: str) -> None:
    answer = installation.api("POST", "/api/imports/preview?wait_ms=30000", {"upload": send(installation, body)})
    assert (answer.status, answer.json()["code"]) == (422, code)


def killed_while_importing(installation: Installation) -> dict[str, Any]:
    """Import 12,000 rows and kill whatever imports them, again and again."""
    import_id = start(installation, send(installation, orders(12_000, 200, tag="kill")))
    for share in (0, 2_000, 5_000):
        until(lambda share=share: installation.get(f"/api/imports/{import_id}")["rows_read"] >= share, "rows are read")  # type: ignore[misc]
        importer = installation.data / "uploads" / "importer.lock"
        for pid in holders(importer):
            kill(pid)
        time.sleep(0.1)
    return ended(installation, import_id)


def holders(path: Path) -> list[int]:
    """The processes that have a file open."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if any(str(link.readlink()) == str(path) for link in (entry / "fd").iterdir()):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_an_import_that_is_killed_goes_on_exactly_where_it_was(installation: Installation) -> None:
    before = installation.settled()
    made = killed_while_importing(installation)
    assert (made["rows_read"], made["accepted"], made["rejected"]) == (12_000, 12_000, 0)
    after = installation.settled()
    assert after["accepted"] - before["accepted"] == 12_000
    assert after["duplicates"] == before["duplicates"], "what was in the log was not read again"
    assert installation.sql("select count(*) from events where user_id like 'kill%'") == [[12_000]]


def test_an_import_is_cancelled_and_can_be_taken_up_again(installation: Installation) -> None:
    body = orders(20_000, 300, tag="stop")
    import_id = start(installation, send(installation, body))
    until(lambda: installation.get(f"/api/imports/{import_id}")["status"] != "waiting", "it runs")
    installation.api("POST", f"/api/imports/{import_id}/cancel", {})
    made = ended(installation, import_id, "cancelled", "done")
    assert made["accepted"] <= 20_000
    undo(installation, import_id)
    installation.settled()
    assert installation.sql("select count(*) from events where user_id like 'stop%'") == [[0]]


# Undoing.


def known(installation: Installation) -> dict[str, Any]:
    """Everything that is known of people, without positions."""
    queries = {
        "profiles": "select profile_id from profiles order by all",
        "identifiers": "select profile_id, namespace, value from identifiers order by all",
        "traits": "select profile_id, name, value from traits order by all",
        "memberships": "select profile_id, segment, entered_at, exited_at from memberships order by all",
        "links": "select * exclude (position) from links order by all",
        "events": "select message_id, profile_id, event_at from events order by all",
    }
    installation.settled()
    return {name: installation.sql(sql) for name, sql in queries.items()}


def test_an_undone_import_leaves_everything_as_if_it_had_never_been(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        city = {"kind": "trait", "path": ["city"], "test": "is", "value": "Roma"}
        for key, where in (("buyers", {"kind": "did", "event": "Order Completed"}), ("romans", city)):
            spec = {"language": 1, "where": where}
            installation.post("/api/segments", {"key": key, "name": key, "purpose": "operations", "spec": spec})
        batch = []
        for number in range(10):
            at = {"userId": f"p{number}", "timestamp": "2020-01-01T00:00:00Z"}
            batch.append({"type": "identify", "messageId": f"i{number}", **at, "traits": {"city": "Roma"}})
            batch.append({"type": "track", "messageId": f"t{number}", "event": "Order Completed", "anonymousId": f"a{number}"})
            batch.append({"type": "track", "messageId": f"e{number}", "event": "Seen", "userId": f"p{number}"})
        # Two devices with an address each, which the file will join to a customer.
        batch.append({"type": "identify", "messageId": "x1", "anonymousId": "d1", "traits": {"email": "join@example.com"}})
        assert installation.track({"batch": batch}).status == 200
        before = known(installation)
        people = "customer;email;day;city\n" + "".join(f"p{n};p{n}@example.com;{n + 1:02d}.01.2021;Milano\n" for n in range(10))
        people += "p1;join@example.com;20.01.2021;Torino\nnew1;new1@example.com;20.01.2021;Torino\n"
        upload = send(installation, people.encode(), "people.csv")
        preview = installation.post(
            "/api/imports/preview?wait_ms=30000", {"upload": upload, "source": "default", "mapping": PEOPLE_MAPPING}
        )
        told = preview["identity"]
        assert (told["rows"], told["merging"], told["people_merged"], told["new"], told["new_people"]) == (12, 1, 1, 1, 1)
        import_id = start(installation, upload, PEOPLE_MAPPING)
        ended(installation, import_id)
        imported = known(installation)
        assert len(imported["profiles"]) == len(before["profiles"]), "one person more by the file, and one fewer by a merge"
        assert imported["traits"] != before["traits"] and imported["memberships"] != before["memberships"]
        undo(installation, import_id)
        assert known(installation) == before
        status = installation.settled()
        assert (status["erased"], status["applied"]) == (12, len(batch))
        assert installation.sql("select outcome, reason, count(*) from outcomes group by all order by all")[-1] == [
            "erased",
            "import_undone",
            12,
        ]
        live, rebuilt, code = installation.replay()
        assert (live, code) == (rebuilt, 0)
        assert b"Torino" not in b"".join(path.read_bytes() for path in (installation.data / "log").iterdir())
        # The same file can come again, and says the same again.
        ended(installation, start(installation, send(installation, people.encode(), "people.csv"), PEOPLE_MAPPING))
        assert known(installation) == imported


def test_an_undo_that_is_killed_at_any_moment_comes_to_its_end(installation: Installation) -> None:
    import_id = start(installation, send(installation, orders(5_000, 50, tag="crash")))
    ended(installation, import_id)
    installation.api("POST", f"/api/imports/{import_id}/undo", {})
    for number in range(6):
        # Live events go on meanwhile, and stay.
        event = {"type": "track", "messageId": f"during{number}", "event": "Seen", "userId": "during"}
        assert installation.track({"batch": [event]}).status == 200
        time.sleep(0.15)
        for pid in holders(installation.data / "uploads" / "importer.lock"):
            kill(pid)
        kill(installation.pids().get("worker", 0) or 10**9)
    ended(installation, import_id, "undone")
    installation.settled()
    assert installation.sql("select count(*) from events where user_id like 'crash%'") == [[0]]
    assert installation.sql("select count(*) from identifiers where value like 'crash%'") == [[0]]
    assert installation.sql("select count(*) from events where user_id = 'during'") == [[6]]
    live, rebuilt, _ = installation.replay()
    assert live == rebuilt


def test_jobs_name_imports(installation: Installation) -> None:
    jobs = json.loads(installation.api("GET", "/api/jobs").body)["items"]
    assert any(job["type"] == "import" for job in jobs)
