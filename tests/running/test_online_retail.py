"""Real invoices through the tracking endpoint: their sums must be those that were counted in the source."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from conosco.model.moment import spell_moment
from tests.running.installation import Installation
from tests.running.online_retail.sample import Invoice, invoices, read_answers, read_sample

BATCH = 250


def order(invoice: Invoice) -> dict[str, Any]:
    """An invoice as the shop's server would tell of it, with its exact total."""
    who = {"userId": invoice.customer} if invoice.customer else {"anonymousId": f"guest-{invoice.number}"}
    products = [{"product_id": line.stock_code, "quantity": line.quantity, "price": line.unit_price} for line in invoice.lines]
    return {
        "type": "track",
        "event": "Order Cancelled" if invoice.cancelled else "Order Completed",
        "messageId": invoice.number,
        "timestamp": spell_moment(invoice.at),
        "properties": {"order_id": invoice.number, "revenue": invoice.total, "currency": "GBP", "products": products},
        **who,
    }


def test_sums_of_real_invoices_are_exact(tmp_path: Path) -> None:
    answers = read_answers()
    orders = [order(invoice) for invoice in invoices(read_sample())]
    encode = msgspec.json.Encoder(decimal_format="number").encode
    with Installation(tmp_path) as installation:
        for start in range(0, len(orders), BATCH):
            assert installation.track(encode({"batch": orders[start : start + BATCH]})).status == 200
        # Some are sent again, and change no sum.
        assert installation.track(encode({"batch": orders[:BATCH]})).status == 200
        status = installation.settled()
        assert (status["applied"], status["duplicates"]) == (answers.invoices, BATCH)

        def ask(sql: str) -> list[list[Any]]:
            answer = installation.api("POST", "/api/sql", {"sql": sql, "params": []})
            rows: list[list[Any]] = json.loads(answer.body, parse_float=Decimal)["rows"]
            return rows

        revenue = "sum(cast(json_extract_string(properties, '$.revenue') as decimal(38, 6)))"
        assert ask(f"select {revenue}, count(*) from events") == [[answers.net_sum, answers.invoices]]
        cancelled = f"select {revenue}, count(*) from events where event = 'Order Cancelled'"
        assert ask(cancelled) == [[answers.cancelled_sum, answers.cancelled_invoices]]
        assert ask("select count(distinct user_id) from events") == [[answers.customers]]
        assert ask("select count(*) from events where user_id is null") == [[answers.guest_invoices]]
        # Each customer is one person, and each guest of a single order another.
        assert ask("select count(*) from profiles") == [[answers.customers + answers.guest_invoices]]
        units = "select sum(cast(json_extract_string(line, '$.quantity') as bigint)) from (select unnest(cast("
        units += "json_extract(properties, '$.products') as json[])) as line from events)"
        assert ask(units) == [[answers.units]]
