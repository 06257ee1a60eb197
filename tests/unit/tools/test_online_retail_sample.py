"""The sample of Online Retail is what its answers, counted in the source, say it is."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from conosco.model.moment import spell_moment
from tests.running.online_retail.sample import SAMPLE_DATA, Answers, Line, invoices, read_answers, read_sample


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """All lines of the sample."""
    return read_sample()


@pytest.fixture(scope="module")
def answers() -> Answers:
    """What was counted in the source."""
    return read_answers()


def test_the_sample_is_small_enough_to_travel() -> None:
    assert sum(path.stat().st_size for path in SAMPLE_DATA.iterdir()) <= 5_000_000


def test_the_sample_names_its_source() -> None:
    readme = (SAMPLE_DATA / "README.md").read_text()
    for part in ("Chen, D. (2015). Online Retail", "UCI Machine Learning Repository", "CC BY 4.0"):
        assert part in readme


def test_counts(lines: Sequence[Line], answers: Answers) -> None:
    assert len(lines) == answers.rows
    assert len(lines) - len(set(lines)) == answers.duplicate_rows
    assert len({line.invoice for line in lines}) == answers.invoices
    assert len({line.customer for line in lines} - {None}) == answers.customers
    assert len({line.country for line in lines}) == answers.countries
    assert sum(line.invoice.startswith("C") for line in lines) == answers.cancelled_rows
    assert sum(line.quantity for line in lines) == answers.units


def test_sums(lines: Sequence[Line], answers: Answers) -> None:
    assert sum((line.value for line in lines), Decimal(0)) == answers.net_sum
    assert sum((line.value for line in lines if line.invoice.startswith("C")), Decimal(0)) == answers.cancelled_sum


def test_times(lines: Sequence[Line], answers: Answers) -> None:
    assert spell_moment(min(line.at for line in lines)) == answers.first.replace(" ", "T") + "Z"
    assert spell_moment(max(line.at for line in lines)) == answers.last.replace(" ", "T") + "Z"


def test_odd_rows_are_kept(lines: Sequence[Line]) -> None:
    assert any(line.unit_price == 0 for line in lines)
    assert any(line.description != line.description.strip() for line in lines)
    assert any(line.country == "Unspecified" for line in lines)
    assert any(line.stock_code == "POST" for line in lines)


def test_invoices(lines: Sequence[Line], answers: Answers) -> None:
    made = invoices(lines)
    assert len(made) == answers.invoices
    assert sum(invoice.cancelled for invoice in made) == answers.cancelled_invoices
    assert sum(invoice.customer is None for invoice in made) == answers.guest_invoices
    assert sum((invoice.total for invoice in made), Decimal(0)) == answers.net_sum
    assert [invoice.at for invoice in made] == sorted(invoice.at for invoice in made)
    assert all({line.customer for line in invoice.lines} == {invoice.customer} for invoice in made)


def test_invoices_do_not_depend_on_the_order_of_others(lines: Sequence[Line]) -> None:
    some = lines[:2_000]
    last_first = sorted(some, key=lambda line: line.invoice, reverse=True)
    assert invoices(last_first) == invoices(some)
