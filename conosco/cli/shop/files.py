"""Files that the shop's other systems hand over: an export of its CRM, and what its help desk posts to a webhook."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from conosco.cli.shop.messages import Message
from conosco.cli.shop.people import Person
from conosco.cli.shop.visits import traits_of

CRM: Final = "crm-customers.csv"
TICKETS: Final = "tickets"
TICKETS_MAX: Final = 25
COLUMNS: Final = (
    "customer_no",
    "name",
    "surname",
    "e_mail",
    "telephone",
    "street",
    "postal_code",
    "city",
    "country",
    "born",
    "newsletter",
)
# How people in the offices of each country write a date and a yes.
_DATES: Final = {"it": "{2}/{1}/{0}", "pl": "{2}.{1}.{0}", "pt": "{2}-{1}-{0}", "de": "{2}.{1}.{0}", "en": "{2}/{1}/{0}"}
_YES: Final = {"it": "sì", "pl": "tak", "pt": "sim", "de": "ja", "en": "yes"}
_TICKET_EVENTS: Final = {
    "Ticket Opened": "ticket.created",
    "Ticket Updated": "ticket.updated",
    "Ticket Reopened": "ticket.reopened",
    "Ticket Resolved": "ticket.solved",
}


def crm_rows(people: Iterable[Person], seed: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows of the CRM's export, each with the key of its person: misspelt, without letters, in wrong fields, some people twice."""
    for person in people:
        rng = Random(f"{seed}/crm/{person.key}")
        if person.standing == "visitor" or rng.random() < 0.3:
            continue
        for copy in range(2 if rng.random() < 0.04 else 1):
            # Whoever typed a person in again did not know the customer number.
            yield person.key, _row(person, person.user_ids[0] if person.user_ids and not copy else "", rng)


def write_files(folder: Path, people: Iterable[Person], messages: Iterable[Message], seed: int) -> list[str]:
    """Write the export and the newest posts of the help desk. Returns whose each row of the export is, in order.

    Lines end as spreadsheets end them; columns are separated by semicolons, because commas stand in numbers there.
    """
    (folder / TICKETS).mkdir(parents=True, exist_ok=True)
    whose: list[str] = []
    with (folder / CRM).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(COLUMNS)
        for key, row in crm_rows(people, seed):
            whose.append(key)
            writer.writerow(row)
    newest = [message for message in messages if message.source == "desk" and message.outcome == "applied"][-TICKETS_MAX:]
    for number, message in enumerate(newest, 1):
        body = msgspec.json.format(msgspec.json.encode(ticket_post(message)), indent=2)
        (folder / TICKETS / f"{number:03d}.json").write_bytes(body + b"\n")
    return whose


def ticket_post(message: Message) -> dict[str, Any]:
    """What a help desk posts of a ticket, in words of its own."""
    call = msgspec.json.decode(message.body)
    properties = call["properties"]
    names = {"id": "ticket_id", "subject": "subject", "topic": "category", "assignee": "assignee", "order": "order_id"}
    ticket = {name: properties[own] for name, own in names.items() if own in properties}
    ticket["requester"] = {"email": call["context"]["traits"]["email"]}
    if "satisfaction" in properties:
        ticket["satisfaction"] = {"score": properties["satisfaction"], "of": 5}
    return {"id": call["messageId"], "type": _TICKET_EVENTS[message.event], "occurred_at": call["timestamp"], "ticket": ticket}


def _row(person: Person, customer_no: str, rng: Random) -> tuple[str, ...]:
    traits = traits_of(person, rng)
    language = person.country.language
    return (
        customer_no,
        traits["first_name"],
        traits["last_name"],
        "" if rng.random() < 0.05 else traits["email"],
        traits.get("phone", ""),
        traits["address"]["street"],
        traits["address"]["postal_code"],
        traits["address"]["city"],
        "" if rng.random() < 0.05 else person.country.code,
        _DATES[language].format(*person.born.split("-")),
        _YES[language] if rng.random() < 0.5 else "no" if rng.random() < 0.5 else "",
    )
