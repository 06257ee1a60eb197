"""What other systems of the shop hand over as files."""

import csv
import json
from pathlib import Path

from conosco.cli.shop.files import COLUMNS, CRM, TICKETS, crm_rows, write_files
from conosco.cli.shop.past import Past, Plan
from conosco.model.moment import HOUR, SECOND

PLAN = Plan(end=1_790_000_000 * SECOND // HOUR * HOUR, people=300, days=90)


def test_the_export_and_the_posts(tmp_path: Path) -> None:
    past = Past(PLAN)
    messages = list(past.messages())
    whose = write_files(tmp_path, past.shop.people, messages, PLAN.seed)
    with (tmp_path / CRM).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(whose) > 100
    by_key = {person.key: person for person in past.shop.people}
    for key, row in zip(whose, rows, strict=True):
        person = by_key[key]
        assert row["customer_no"] in ("", *person.user_ids)
        assert row["e_mail"].strip().lower() in ("", person.email, person.second_email, person.misspelt_email)
    assert len(set(whose)) < len(whose)
    assert any(not row["e_mail"] for row in rows)
    posts = [json.loads(path.read_bytes()) for path in sorted((tmp_path / TICKETS).iterdir())]
    assert posts
    for post in posts:
        assert set(post) == {"id", "type", "occurred_at", "ticket"}
        assert post["type"].startswith("ticket.")
        assert "@" in post["ticket"]["requester"]["email"]


def test_rows_repeat_with_the_seed() -> None:
    people = Past(PLAN).shop.people
    assert list(crm_rows(people, 1)) == list(crm_rows(people, 1))
    assert list(crm_rows(people, 1)) != list(crm_rows(people, 2))
