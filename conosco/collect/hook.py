"""Taking the body of a webhook: from what was received to the slices that the log keeps. What it means is asked later."""

from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from conosco.collect.accept import BODY_BYTES_MAX, EVENTS_MAX
from conosco.collect.split import Malformed, check_document, elements, members, skip_space, skip_value
from conosco.collect.wire import EVENT_BYTES_MAX, breaks_limits
from conosco.model.problem import refuse

FORM_FIELDS_MAX: Final = 2_000
_BOM: Final = b"\xef\xbb\xbf"
_OBJECT: Final = ord("{")
_ARRAY: Final = ord("[")
_CONTAINERS_MAX: Final = 250_000


class Bodies(NamedTuple):
    """A request taken apart. ``refused_count`` elements were no objects, and are not kept.

    With ``each`` the slices are the elements of the list at that path, and ``rest`` is the body with that list emptied.
    """

    slices: tuple[bytes, ...]
    rest: bytes = b"{}"
    each: tuple[str, ...] = ()
    refused_count: int = 0


def take(body: bytes, is_form: bool, each: Sequence[tuple[str, ...] | None]) -> Bodies:
    """Take a request apart; ``each`` are the paths of the lists that the mappings of its source go through, None for none.

    A list of bodies gives a slice for each. A body whose mappings all go through the same list gives a slice for each of its
    elements, so that each can be erased with its person. Everything else is one slice. Raises Refused where the whole
    cannot be taken: then nothing is stored.
    """
    if len(body) > BODY_BYTES_MAX:
        raise refuse("body_too_large", status=413, limit=BODY_BYTES_MAX)
    body = body.removeprefix(_BOM)
    if not body.strip():
        raise refuse("empty_body", status=400)
    # Programs that are given JSON and no type call it a form; in a form these characters are spelled otherwise.
    if is_form and body.lstrip()[:1] not in (b"{", b"["):
        return Bodies((_read_form(body),))
    start, end = _document(body)
    if body[start] == _ARRAY:
        raws = list(islice(elements(body, start), EVENTS_MAX + 1))
        if len(raws) > EVENTS_MAX:
            raise refuse("too_many_events", status=413, limit=EVENTS_MAX)
        kept = tuple(raw for raw in raws if raw[0] == _OBJECT)
        if not raws:
            raise refuse("empty_batch", status=400)
        return Bodies(kept, refused_count=len(raws) - len(kept))
    if body[start] != _OBJECT:
        raise refuse("not_an_object", status=400)
    whole = body[start:end]
    paths = set(each)
    path = next(iter(paths)) if len(paths) == 1 else None
    return (_split(whole, path) if path else None) or Bodies((whole,))


def _document(body: bytes) -> tuple[int, int]:
    try:
        body.decode()
        if body.count(b"{") + body.count(b"[") > _CONTAINERS_MAX:
            raise refuse("body_too_large", status=413, limit=BODY_BYTES_MAX)
        return check_document(body)
    except (Malformed, UnicodeDecodeError):
        raise refuse("invalid_json", status=400) from None


def _split(whole: bytes, path: tuple[str, ...]) -> Bodies | None:
    """The elements of the list at a path; None if there is none, or nothing in it, or the rest is too large to be told with each."""
    start = 0
    for name in path:
        if whole[start] != _OBJECT:
            return None
        # Of members of one name the last counts, as for every reader.
        places = [member.value_start for member in members(whole, start) if member.name == name]
        if not places:
            return None
        start = places[-1]
    if whole[start] != _ARRAY or whole[skip_space(whole, start + 1)] == ord("]"):
        return None
    raws = tuple(islice(elements(whole, start), EVENTS_MAX + 1))
    rest = whole[:start] + b"[]" + whole[skip_value(whole, start) :]
    if len(raws) > EVENTS_MAX:
        raise refuse("too_many_events", status=413, limit=EVENTS_MAX)
    if len(rest) > EVENT_BYTES_MAX or breaks_limits(rest) is not None:
        return None
    return Bodies(raws, rest, path)


def _read_form(body: bytes) -> bytes:
    """The fields of a form as an object: texts, and a list of texts where a name comes more than once."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:
        raise refuse("invalid_form", status=400, limit=FORM_FIELDS_MAX) from None
    fields: dict[str, str | list[str]] = {}
    for name, value in pairs:
        known = fields.get(name)
        if known is None:
            fields[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            fields[name] = [known, value]
    return msgspec.json.encode(fields)
