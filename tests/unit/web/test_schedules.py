"""The routes of schedules: runs that are asked for, and files that are handed out."""

from tests.unit.web.conftest import Client
from tests.unit.web.fake_office import FakeOffice


def test_a_run_is_asked_for_once(ask: Client, office: FakeOffice) -> None:
    for _ in range(2):
        answer = ask("POST", "/api/exports/weekly/run")
        assert (answer.status_code, answer.json()["is_asked"]) == (202, True)
    assert ask("POST", "/api/imports/schedules/weekly/run").status_code == 404


def test_runs_come_in_pages(ask: Client, office: FakeOffice) -> None:
    assert ask("GET", "/api/exports/weekly/runs").json() == {"items": [], "next": None}


def test_a_file_is_an_attachment_that_no_browser_opens(ask: Client, office: FakeOffice) -> None:
    answer = ask("GET", "/api/exports/weekly/file")
    assert answer.content == b"e-mail\r\nanna@example.com\r\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="weekly.csv"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask("GET", "/api/exports/none/file").status_code == 404
