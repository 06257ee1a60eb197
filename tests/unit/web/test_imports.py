"""Routes of files in: what they take, what they answer, and what they refuse."""

from tests.unit.web.conftest import Client

ASKED = {"source": "default", "mapping": [{"type": "identify"}], "basis": "contract", "note": "orders"}


def test_an_upload_is_the_body_itself_and_may_be_longer_than_other_bodies(ask: Client) -> None:
    answer = ask("POST", "/api/uploads?name=orders.csv", content=bytes(12_000_000))
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["bytes"]) == ("orders.csv", 12_000_000)


def test_an_import_is_asked_for_and_found_again(ask: Client) -> None:
    upload = ask("POST", "/api/uploads", content=b"a,b\n").json()["upload"]
    made = ask("POST", "/api/imports", json={**ASKED, "upload": upload})
    assert (made.status_code, made.json()["status"], made.json()["basis"]) == (202, "waiting", "contract")
    import_id = made.json()["import_id"]
    assert ask("GET", f"/api/imports/{import_id}").json()["import_id"] == import_id
    assert [item["import_id"] for item in ask("GET", "/api/imports").json()["items"]] == [import_id]
    refused = ask("POST", f"/api/imports/{import_id}/undo", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "import_not_ended")
    rejected = ask("GET", f"/api/imports/{import_id}/rejected")
    assert rejected.headers["content-type"].startswith("text/csv") and rejected.text == "row,reason\r\n"


def test_a_preview_that_is_not_done_yet_says_so(ask: Client) -> None:
    upload = ask("POST", "/api/uploads", content=b"a,b\n").json()["upload"]
    assert ask("POST", "/api/imports/preview?wait_ms=0", json={"upload": upload}).status_code == 202
    assert ask("GET", "/api/imports/preview/prv_1").status_code == 200


def test_an_import_without_a_basis_or_a_note_is_refused(ask: Client) -> None:
    for missing in ("basis", "note"):
        asked = {name: value for name, value in ASKED.items() if name != missing}
        answer = ask("POST", "/api/imports", json={**asked, "upload": "upl_0"})
        assert (answer.status_code, answer.json()["code"], answer.json()["params"]) == (422, "missing_field", {"field": missing})
