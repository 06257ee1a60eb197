"""A first mapping for a file, from the headings of its columns in English, Italian, Polish and Portuguese, and from its values."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from conosco.model.importing import Column, Description

# Words by which people head such columns, without accents and in small letters.
_EMAIL: Final = frozenset(
    "email emailaddress mail adresemail adrespocztyelektronicznej indirizzoemail postaelettronica correioeletronico enderecoemail".split()
)
_PHONE: Final = frozenset(
    "phone phonenumber mobile mobilephone telephone tel telefono cellulare numeroditelefono numerotelefono telefon numertelefonu nrtelefonu komorka telefonkomorkowy telefone telemovel celular".split()
)
_USER: Final = frozenset(
    "userid customerid clientid customer customernumber customerno custid memberid householdid loyaltyid idcliente codicecliente numerocliente cliente idutente tessera "
    "idklienta numerklienta nrklienta klient kodklienta idutilizador codigocliente codigodocliente numerodecliente idusuario".split()
)
_FIRST: Final = frozenset("firstname givenname forename nome imie primeironome".split())
_LAST: Final = frozenset("lastname surname familyname cognome nazwisko apelido sobrenome".split())
_NAME: Final = frozenset("name fullname nomecognome nomeecognome nominativo imieinazwisko nomecompleto".split())
_BIRTH: Final = re.compile(r"birth|dob|nascita|urodzenia|nascimento")
_WHEN: Final = re.compile(r"date|time|moment|day|data|ora|giorno|czas|dzien|dia|hora|quando|timestamp|created|at$")
_TRAIT_NAMES: Final = (("firstName", _FIRST), ("lastName", _LAST), ("name", _NAME))
_EMAIL_VALUE: Final = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+\Z")
_SAYS_NOTHING: Final = frozenset({"data", "export", "eksport", "esportazione", "file", "sheet1", "upload"})


def suggest(description: Description, file_name: str) -> list[dict[str, Any]]:
    """One event mapping: what is surely an address, a number, an id, a name or a moment, and everything else as it is."""
    columns = description.format.columns
    found = _recognise(columns, description.rows)
    traits: dict[str, Any] = {}
    for trait, column in found.items():
        if trait in ("email", "phone"):
            traits[trait] = {"path": [column], "as": trait}
        elif trait not in ("user_id", "timestamp"):
            traits[trait] = {"path": [column]}
    made: dict[str, Any] = {}
    if "timestamp" in found:
        made |= {"type": "track", "event": _event_name(file_name)}
    else:
        made["type"] = "identify"
    if "user_id" in found:
        made["user_id"] = {"path": [found["user_id"]], "as": "text"}
    if "timestamp" in found:
        made["timestamp"] = {"path": [found["timestamp"]]}
        if traits:
            made["context"] = {"traits": {"object": traits}}
        made["properties"] = {"rest": True}
    else:
        made["traits"] = {**traits, "rest": True}
    return [made]


def _recognise(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the columns are: trait (or user_id, timestamp) to column, the first one that fits."""
    found: dict[str, str] = {}
    for column in columns:
        head = plain(column.name)
        values = [row[column.name] for row in rows if row.get(column.name) is not None]
        for meaning, words in (("email", _EMAIL), ("phone", _PHONE), ("user_id", _USER), *_TRAIT_NAMES):
            if head in words:
                found.setdefault(meaning, column.name)
                break
        else:
            if _BIRTH.search(head):
                found.setdefault("birthday", column.name)
            elif values and all(isinstance(value, str) and _EMAIL_VALUE.match(value) for value in values):
                found.setdefault("email", column.name)
            elif column.type == "moment" or (_WHEN.search(head) and values and all(_is_moment(value) for value in values)):
                found.setdefault("timestamp", column.name)
    return found


def _is_moment(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(r"\d{4}-\d\d-\d\d(?:[T ]|\Z)", value))


def plain(heading: str) -> str:
    """A heading in small letters without accents, spaces and marks."""
    folded = unicodedata.normalize("NFKD", heading.replace("ł", "l").replace("Ł", "L"))
    return re.sub(r"[^a-z0-9]", "", folded.lower())


def _event_name(file_name: str) -> str:
    stem = re.sub(r"(\.(csv|txt|tsv|xlsx|parquet|jsonl|ndjson|json|gz))+\Z", "", file_name, flags=re.IGNORECASE)
    words = re.sub(r"[^\w]+|_+|\d+", " ", stem).split()
    name = " ".join(word.capitalize() for word in words)[:80]
    return name if name and name.lower() not in _SAYS_NOTHING else "Row Imported"
