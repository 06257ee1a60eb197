"""A sample of real invoices: its lines as published, and the invoices they make. Where it comes from: README.md beside it."""

import csv
import gzip
import io
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from conosco.model.moment import parse_moment

SAMPLE_DATA: Final = Path(__file__).parent


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an invoice. ``at`` is microseconds UTC; prices are pounds; a customer of None is a guest."""

    invoice: str
    stock_code: str
    description: str
    quantity: int
    at: int
    unit_price: Decimal
    customer: str | None
    country: str

    @property
    def value(self) -> Decimal:
        """What the line adds to the invoice; negative on a cancellation."""
        return self.quantity * self.unit_price


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice with its lines in their order. ``at`` is the time of its first line."""

    number: str
    at: int
    customer: str | None
    country: str
    lines: tuple[Line, ...]

    @property
    def cancelled(self) -> bool:
        """True for a cancellation, which takes back goods of earlier invoices."""
        return self.number.startswith("C")

    @property
    def total(self) -> Decimal:
        """The exact sum of the lines."""
        return sum((line.value for line in self.lines), Decimal(0))


class Answers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the sample, counted in the data it was taken from. Sums are pounds, times as published."""

    rows: int
    duplicate_rows: int
    invoices: int
    cancelled_invoices: int
    guest_invoices: int
    cancelled_rows: int
    customers: int
    countries: int
    units: int
    net_sum: Decimal
    cancelled_sum: Decimal
    first: str
    last: str
    best_customer: int


def read_sample() -> list[Line]:
    """Read the lines that are kept beside this file, in their published order."""
    packed = (SAMPLE_DATA / "online_retail_sample.csv.gz").read_bytes()
    return [_line(row) for row in csv.DictReader(io.StringIO(gzip.decompress(packed).decode(), newline=""))]


def read_answers() -> Answers:
    """Read the known answers of the sample."""
    return msgspec.json.decode((SAMPLE_DATA / "answers.json").read_bytes(), type=Answers)


def invoices(lines: Iterable[Line]) -> list[Invoice]:
    """Put lines together to invoices, in order of time and number."""
    by_number: dict[str, list[Line]] = {}
    for line in lines:
        by_number.setdefault(line.invoice, []).append(line)
    made = [
        Invoice(
            number=number,
            at=min(line.at for line in own),
            customer=own[0].customer,
            country=own[0].country,
            lines=tuple(own),
        )
        for number, own in by_number.items()
    ]
    return sorted(made, key=lambda invoice: (invoice.at, invoice.number))


def _line(row: dict[str, str]) -> Line:
    at = parse_moment(row["InvoiceDate"])
    if at is None:
        raise ValueError(f"the sample is damaged: {row['InvoiceDate']} is no time")
    return Line(
        invoice=row["InvoiceNo"],
        stock_code=row["StockCode"],
        description=row["Description"],
        quantity=int(row["Quantity"]),
        at=at,
        unit_price=Decimal(row["UnitPrice"]),
        customer=row["CustomerID"] or None,
        country=row["Country"],
    )
