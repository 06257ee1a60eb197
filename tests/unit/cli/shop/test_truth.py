"""The truth counts what it is told, and its file says of each message whose it is."""

import json
from decimal import Decimal
from pathlib import Path

from conosco.cli.shop.messages import Fact, Message
from conosco.cli.shop.past import Past, Plan
from conosco.cli.shop.truth import Truth, write_truth
from conosco.model.moment import HOUR, SECOND

EMAIL, PHONE, TABLET, LONE = ("email", "a@example.com"), ("phone", "+39000"), ("anonymous_id", "t"), ("anonymous_id", "l")


def said(person: str, *who: tuple[str, str], fact: Fact | None = None, event: str = "page") -> Message:
    """A message."""
    return Message(0, "web", "m", b"{}", event, person, who, fact=fact)


def test_shared_identifiers_make_people_doubtful() -> None:
    truth = Truth()
    for message in (
        said("a", EMAIL, TABLET),
        said("b", TABLET),
        said("c", PHONE),
        said("c", LONE),
        said("", ("anonymous_id", "bot")),
    ):
        truth.note(message)
    assert truth.shared() == {TABLET}
    assert truth.clear() == {"c"}
    books = truth.books()
    assert (books.people, books.programs, books.people_clear, books.profiles_clear, books.merges_clear) == (3, 1, 1, 2, 0)
    truth.note(said("c", PHONE, LONE))
    assert (truth.books().profiles_clear, truth.books().merges_clear) == (1, 1)


def test_two_user_ids_make_doubtful() -> None:
    truth = Truth()
    truth.note(said("a", ("user_id", "1"), LONE))
    truth.note(said("a", ("user_id", "2"), LONE))
    assert truth.clear() == set()


def test_money_is_counted_once() -> None:
    truth = Truth()
    order = said("a", EMAIL, fact=Fact("order", "o1", "IT", "EUR", 1_250, "c1"), event="Order Completed")
    for message in (
        order,
        order._replace(outcome="duplicate", reason="same_message"),
        said("a", EMAIL, fact=Fact("refund", "o1", "IT", "EUR", 250)),
        said("a", EMAIL, fact=Fact("cart", "c1", "IT")),
        said("a", EMAIL, fact=Fact("cart", "c2", "IT")),
    ):
        truth.note(message)
    books = truth.books()
    assert (books.revenue, books.refunds, books.orders) == ({"IT": Decimal("12.50")}, {"IT": Decimal("2.50")}, {"IT": 1})
    assert (books.carts, books.carts_abandoned, books.messages) == (2, 1, 5)
    assert books.reasons == {"same_message": 1}


def test_the_file_says_everything(tmp_path: Path) -> None:
    past = Past(Plan(end=1_790_000_000 * SECOND // HOUR * HOUR, people=50, days=40))
    messages = list(past.messages())
    write_truth(tmp_path / "truth", messages, past.truth, past.shop.people, {"crm.csv": ["person-000001"]})
    lines = [json.loads(line) for line in (tmp_path / "truth").read_text().splitlines()]
    assert [line["message_id"] for line in lines[: len(messages)]] == [message.message_id for message in messages]
    assert lines[len(messages)] == {"file": "crm.csv", "row": 1, "person": "person-000001"}
    assert lines[-1]["books"]["messages"] == len(messages)
    people = {line["truth"]["key"] for line in lines[len(messages) + 1 : -1]}
    assert {line["person"] for line in lines[: len(messages)]} - {None} <= people
    # Nothing of the truth is in what is sent.
    assert not any(b"person-0" in message.body for message in messages)
