"""What the shop's people set up in Conosco: the sources of its systems, attributes, and segments that tell a marketer something."""

from typing import Any, Final

from conosco.cli.shop.messages import SourceKey

_ORDER: Final = {"kind": "did", "event": "Order Completed"}

SOURCES: Final[dict[SourceKey, tuple[dict[str, str], str]]] = {
    "web": ({"en": "Website", "it": "Sito web", "pl": "Strona sklepu", "pt": "Site da loja"}, "browser"),
    "app": ({"en": "App", "it": "App", "pl": "Aplikacja", "pt": "Aplicação"}, "app"),
    "server": ({"en": "Orders", "it": "Ordini", "pl": "Zamówienia", "pt": "Encomendas"}, "server"),
    "pos": ({"en": "Tills", "it": "Casse", "pl": "Kasy", "pt": "Caixas"}, "server"),
    "mail": (
        {"en": "Letters and surveys", "it": "E-mail e sondaggi", "pl": "E-maile i ankiety", "pt": "E-mails e inquéritos"},
        "server",
    ),
    "desk": ({"en": "Help desk", "it": "Assistenza", "pl": "Obsługa klienta", "pt": "Apoio ao cliente"}, "server"),
}
ATTRIBUTES: Final[tuple[dict[str, Any], ...]] = (
    {
        "key": "orders",
        "name": {"en": "Orders so far", "it": "Ordini finora", "pl": "Zamówienia dotąd", "pt": "Encomendas até hoje"},
        "spec": {"language": 1, "aggregate": "count", "event": "Order Completed"},
    },
    {
        "key": "revenue_total",
        "name": {"en": "Revenue so far", "it": "Ricavi finora", "pl": "Przychód dotąd", "pt": "Receita até hoje"},
        "spec": {"language": 1, "aggregate": "sum", "event": "Order Completed", "path": ["revenue"]},
    },
    {
        "key": "days_since_order",
        "name": {
            "en": "Days since the last order",
            "it": "Giorni dall'ultimo ordine",
            "pl": "Dni od ostatniego zamówienia",
            "pt": "Dias desde a última encomenda",
        },
        "spec": {"language": 1, "aggregate": "days_since", "event": "Order Completed"},
    },
)
SEGMENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "key": "regulars",
        "name": {"en": "Regular customers", "it": "Clienti abituali", "pl": "Stali klienci", "pt": "Clientes habituais"},
        "where": {"kind": "attribute", "key": "orders", "test": "at_least", "value": 4},
    },
    {
        "key": "left_the_cart",
        "name": {"en": "Left a full cart", "it": "Carrello abbandonato", "pl": "Porzucony koszyk", "pt": "Carrinho abandonado"},
        "where": {
            "kind": "all",
            "of": [{"kind": "did", "event": "Product Added", "within": "1d"}, {"kind": "not", "of": {**_ORDER, "within": "1d"}}],
        },
    },
    {
        "key": "gone_quiet",
        "name": {"en": "Gone quiet", "it": "Silenziosi da tempo", "pl": "Dawno nieaktywni", "pt": "Inativos há muito"},
        "where": {"kind": "all", "of": [_ORDER, {"kind": "not", "of": {**_ORDER, "within": "180d"}}]},
    },
    {
        "key": "reads_only",
        "name": {
            "en": "Read letters, buy nothing",
            "it": "Leggono ma non comprano",
            "pl": "Czytają, nie kupują",
            "pt": "Leem mas não compram",
        },
        "where": {
            "kind": "all",
            "of": [
                {"kind": "did", "event": "Email Opened", "times": {"min": 2}, "within": "90d"},
                {"kind": "not", "of": {**_ORDER, "within": "90d"}},
            ],
        },
    },
    {
        "key": "waits_for_help",
        "name": {
            "en": "Waiting for an answer",
            "it": "In attesa di una risposta",
            "pl": "Czekają na odpowiedź",
            "pt": "À espera de resposta",
        },
        "where": {
            "kind": "all",
            "of": [
                {"kind": "did", "event": "Ticket Opened", "within": "90d"},
                {"kind": "not", "of": {"kind": "did", "event": "Ticket Resolved", "within": "90d"}},
            ],
        },
    },
    {
        "key": "unhappy",
        "name": {
            "en": "Unhappy lately",
            "it": "Scontenti di recente",
            "pl": "Ostatnio niezadowoleni",
            "pt": "Descontentes há pouco",
        },
        "where": {
            "kind": "did",
            "event": "Survey Answered",
            "within": "90d",
            "where": [{"path": ["score"], "test": "at_most", "value": 6}],
        },
    },
    {
        "key": "abroad_with_email",
        "name": {
            "en": "Outside Italy, with e-mail",
            "it": "Fuori dall'Italia, con e-mail",
            "pl": "Poza Włochami, z e-mailem",
            "pt": "Fora de Itália, com e-mail",
        },
        "where": {
            "kind": "all",
            "of": [
                {"kind": "trait", "path": ["country"], "test": "is_not", "value": "IT"},
                {"kind": "identifier", "namespace": "email"},
            ],
        },
    },
)
