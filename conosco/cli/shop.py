"""The demo's shop: real invoices turned into the calls of an SDK, and shoppers who go on shopping. Pure: no clock, no network.

Orders and their sums are those of the sample; browsing, people and devices are invented from a seed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any, Final

import msgspec

from conosco.cli.sample import Invoice, Line, invoices
from conosco.cli.shoppers import COUNTRIES, SHOP_TABLET, Shopper, invent
from conosco.model.moment import DAY, MINUTE, SECOND, spell_moment

# A call as an SDK sends it: the customer's own JSON.
Call = dict[str, Any]

SITE: Final = "https://shop.example.com"
CURRENCY: Final = "GBP"
# Of a hundred calls one is sent twice, as a client does whose connection broke before the answer.
RESENT: Final = 0.01
VISITS_OPEN_MAX: Final = 25
# Longer orders leave out the names of articles, since an event may have 2,000 keys.
NAMED_LINES_MAX: Final = 300

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """An article; ``price`` is pounds."""

    stock_code: str
    name: str
    price: Decimal


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that shoppers can meet: invoices, the people behind them by user id, and the articles."""

    seed: int
    invoices: tuple[Invoice, ...]
    shoppers: dict[str, Shopper]
    products: tuple[Product, ...]


def open_shop(lines: Iterable[Line], seed: int = 1) -> Shop:
    """Set up the shop from lines of the sample. The same lines and seed give the same shop."""
    made = tuple(invoices(lines))
    shoppers: dict[str, Shopper] = {}
    products: dict[str, Product] = {}
    for invoice in made:
        if invoice.customer is not None and invoice.customer not in shoppers:
            shoppers[invoice.customer] = invent(invoice.customer, invoice.country, seed)
        for line in invoice.lines:
            # Postage, fees and corrections have codes without a digit in front, and nobody browses them.
            if line.stock_code[:1].isdigit() and line.description and line.quantity > 0 and line.unit_price > 0:
                product = Product(stock_code=line.stock_code, name=line.description.strip(), price=line.unit_price)
                products.setdefault(line.stock_code, product)
    return Shop(seed=seed, invoices=made, shoppers=shoppers, products=tuple(products.values()))


def history(shop: Shop, now: int) -> list[Call]:
    """The shop's past as calls in order of time, shifted by whole days so that the last day ends at most a day before ``now``.

    Each invoice gives one ``Order Completed`` or ``Order Cancelled`` whose revenue is its exact total, so that their sum
    is the sample's. Before an order come the visit that led to it and, where it says something new, an identify. Some
    calls are there twice, the same to the byte. ``now`` is microseconds UTC.
    """
    last = max((line.at for invoice in shop.invoices for line in invoice.lines), default=now)
    shift = (now - last) // DAY * DAY
    timed: list[tuple[int, Call]] = []
    told: dict[str, tuple[str, set[str]]] = {}
    for invoice in shop.invoices:
        rng = Random(f"{shop.seed}/invoice/{invoice.number}")
        at = invoice.at + shift
        shopper = shop.shoppers.get(invoice.customer or "")
        device = _device(shopper, rng)
        if not invoice.cancelled:
            timed += _visit(shop, invoice, device, at, rng)
        if shopper is not None:
            country, devices = told.setdefault(shopper.user_id, ("?", set()))
            code = COUNTRIES.get(invoice.country, "")
            if country != code or device not in devices:
                moved = msgspec.structs.replace(shopper, country=code)
                timed.append((at - SECOND, _identify(moved, device, f"{invoice.number}-identify", at - SECOND)))
                told[shopper.user_id] = (code, devices | {device})
        timed.append((at, _order(invoice, device, at)))
    timed.sort(key=lambda entry: (entry[0], entry[1]["messageId"]))
    rng = Random(f"{shop.seed}/resent")
    return [call for _, call in timed for _ in range(2 if rng.random() < RESENT else 1)]


def simulate(shop: Shop, rng: Random, now: Callable[[], int]) -> Iterator[Call]:
    """Shoppers, new and known, as they browse, sign up, buy, give up and cancel: an endless stream of calls, each at ``now()``.

    The caller sets the pace. The same ``rng`` state and moments give the same calls. No order of a guest is cancelled.
    """
    visits: list[Iterator[Call]] = []
    known = sorted(shop.shoppers)
    for number in count(1):
        if not visits or (len(visits) < VISITS_OPEN_MAX and rng.random() < 0.25):
            if known and rng.random() < 0.6:
                shopper, is_new = shop.shoppers[rng.choice(known)], False
            else:
                country = rng.choice(("IT", "PL", "PT", "GB"))
                shopper, is_new = invent(f"new-{rng.getrandbits(32):08x}", country, shop.seed), True
            visits.append(_live_visit(shop, shopper, is_new, rng, now))
        visit = rng.choice(visits)
        call = next(visit, None)
        if call is None:
            visits.remove(visit)
        else:
            yield call | {"messageId": f"live-{number}-{rng.getrandbits(64):016x}"}


def batches(calls: Sequence[Call], size: int = 500) -> Iterator[bytes]:
    """Bodies for the batch call, of at most ``size`` events each; decimal numbers keep every digit."""
    for start in range(0, len(calls), size):
        yield _ENCODER.encode({"batch": calls[start : start + size]})


def _device(shopper: Shopper | None, rng: Random) -> str:
    if shopper is None:
        return f"dev-{rng.getrandbits(64):016x}"
    return shopper.devices[0] if rng.random() < 0.7 else rng.choice(shopper.devices)


def _visit(shop: Shop, invoice: Invoice, device: str, at: int, rng: Random) -> list[tuple[int, Call]]:
    """What came before an order: a look at some of its articles, on a device and without a name; and now and then a visit for nothing."""
    seen = [line for line in invoice.lines if line.stock_code[:1].isdigit()]
    wanted = [
        Product(stock_code=line.stock_code, name=line.description.strip(), price=line.unit_price)
        for line in rng.sample(seen, min(len(seen), rng.choice((1, 2, 3))))
    ]
    calls = _browse(wanted, device, f"{invoice.number}-visit", at - rng.randint(5 * MINUTE, 40 * MINUTE), rng, adds=1.0)
    if shop.products and rng.random() < 0.3:
        idle = rng.sample(shop.products, min(len(shop.products), 2))
        calls += _browse(idle, device, f"{invoice.number}-idle", at - rng.randint(1 * DAY, 9 * DAY), rng, adds=0.3)
    return calls


def _browse(products: Sequence[Product], device: str, label: str, at: int, rng: Random, *, adds: float) -> list[tuple[int, Call]]:
    """A visit of less than five minutes: the home page, then each article, put into the cart with the chance ``adds``."""
    calls = [(at, _page("Home", "/", device, f"{label}-page", at))]
    for number, product in enumerate(products):
        at += rng.randint(5 * SECOND, 45 * SECOND)
        calls.append((at, _product("Product Viewed", product, device, f"{label}-view-{number}", at)))
        if rng.random() < adds:
            at += rng.randint(2 * SECOND, 30 * SECOND)
            calls.append((at, _product("Product Added", product, device, f"{label}-add-{number}", at)))
    return calls


def _live_visit(shop: Shop, shopper: Shopper, is_new: bool, rng: Random, now: Callable[[], int]) -> Iterator[Call]:
    """One live visit, a call at a time; ids are given by the caller, who knows the order."""
    device = _device(shopper, rng)
    yield _page("Home", "/", device, "", now())
    cart: list[Product] = []
    for product in rng.sample(shop.products, min(len(shop.products), rng.randint(1, 4))):
        yield _product("Product Viewed", product, device, "", now())
        if rng.random() < 0.5:
            yield _product("Product Added", product, device, "", now())
            cart.append(product)
    # Nobody signs in at the counter's tablet only to look; and most people who are new leave without a name.
    if not cart or rng.random() < 0.4:
        return
    if is_new or device == SHOP_TABLET or rng.random() < 0.3:
        yield _identify(shopper, device, "", now())
    lines: list[dict[str, Any]] = [
        {"product_id": item.stock_code, "name": item.name, "quantity": quantity, "price": item.price}
        for item, quantity in ((item, rng.randint(1, 6)) for item in cart)
    ]
    revenue = sum((line["quantity"] * line["price"] for line in lines), Decimal(0))
    order = f"L{rng.getrandbits(40):010x}"
    yield _ordered("Order Completed", order, revenue, lines, shopper.user_id, device, "", now())
    if rng.random() < 0.05:
        lines = [line | {"quantity": -line["quantity"]} for line in lines]
        yield _ordered("Order Cancelled", order, -revenue, lines, shopper.user_id, device, "", now())


def _order(invoice: Invoice, device: str, at: int) -> Call:
    lines: list[dict[str, Any]] = [
        {"product_id": line.stock_code, "quantity": line.quantity, "price": line.unit_price} for line in invoice.lines
    ]
    if len(lines) <= NAMED_LINES_MAX:
        lines = [sold | {"name": line.description} for sold, line in zip(lines, invoice.lines, strict=True)]
    event = "Order Cancelled" if invoice.cancelled else "Order Completed"
    return _ordered(event, invoice.number, invoice.total, lines, invoice.customer, device, f"{invoice.number}-order", at)


def _ordered(
    event: str, order: str, revenue: Decimal, lines: list[dict[str, Any]], user_id: str | None, device: str, label: str, at: int
) -> Call:
    """An order, as the shop's server tells it: of a customer, or else of the guest on a device."""
    who = {"anonymousId": device} if user_id is None else {"userId": user_id}
    properties = {"order_id": order, "revenue": revenue, "currency": CURRENCY, "products": lines}
    return _call("track", label, at) | who | {"event": event, "properties": properties}


def _identify(shopper: Shopper, device: str, label: str, at: int) -> Call:
    """A sign-in on a device, which also tells what is known of the shopper."""
    traits = {"first_name": shopper.first_name, "last_name": shopper.last_name, "language": shopper.language}
    traits |= {"email": shopper.email} if shopper.email else {}
    traits |= {"country": shopper.country} if shopper.country else {}
    return _call("identify", label, at) | {"userId": shopper.user_id, "anonymousId": device, "traits": traits}


def _page(name: str, path: str, device: str, label: str, at: int) -> Call:
    properties = {"path": path, "url": SITE + path, "title": name}
    return _call("page", label, at) | {"anonymousId": device, "name": name, "properties": properties}


def _product(event: str, product: Product, device: str, label: str, at: int) -> Call:
    properties = {"product_id": product.stock_code, "name": product.name, "price": product.price, "currency": CURRENCY}
    context = {"page": {"url": f"{SITE}/p/{product.stock_code}"}}
    call = _call("track", label, at) | {"anonymousId": device, "event": event, "properties": properties}
    return call | {"context": call["context"] | context}


def _call(kind: str, label: str, at: int) -> Call:
    return {
        "type": kind,
        "messageId": f"demo-{label}",
        "timestamp": spell_moment(at),
        "context": {"library": {"name": "conosco-demo", "version": "1"}},
    }
