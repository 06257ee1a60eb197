"""Forms that hold JSON, and the events that pixels spell."""

import base64
import json
from urllib.parse import quote, quote_plus, urlencode

import msgspec
import pytest

from conosco.model.problem import Refused
from conosco.web.tracking_bodies import DATA_PIXELS, GIF, QUERY_BYTES_MAX, event_of_pixel, unwrap

EVENT = {"event": "Viewed?>~", "userId": "àda", "properties": {"a+b": "1 & 2 = 3%"}}
RAW = json.dumps(EVENT, ensure_ascii=False).encode()
PLAIN64 = base64.b64encode(RAW).decode()
URL64 = base64.urlsafe_b64encode(RAW).decode()


@pytest.mark.parametrize(
    "body",
    [
        RAW,
        b"data=" + quote(RAW).encode(),
        b"DATA=" + quote_plus(RAW).encode() + b"&verbose=1",
        b"data=" + quote(PLAIN64).encode(),
        b"data=" + PLAIN64.encode(),
        b"data=" + URL64.rstrip("=").encode(),
        quote(RAW, safe="").encode(),
        quote_plus(RAW, safe="").encode() + b"=\r\n",
    ],
)
def test_json_is_found_in_a_form(body: bytes) -> None:
    assert json.loads(unwrap(body)) == EVENT


@pytest.mark.parametrize("body", [b"", b" ", b"[1]", b'\xef\xbb\xbf{"a":1}', b"event=A", b"da", b"%7", b'{"data=":1}'])
def test_every_other_body_stays_as_it_is(body: bytes) -> None:
    assert unwrap(body) == body


@pytest.mark.parametrize("body", [b"data=", b"data=%%%", b"data=A", b"data=\xff\xfe", b"data=&data=e30="])
def test_a_form_that_holds_no_json_becomes_none(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(unwrap(body))


def test_nothing_grows_by_unwrapping() -> None:
    for body in (b"data=" + b"%7B" * 999, b"data=" + b"QUJD" * 999, b"%7b" + b"+" * 999):
        assert len(unwrap(body)) <= len(body)


@pytest.mark.parametrize("data", [PLAIN64, PLAIN64.rstrip("="), URL64, RAW.decode()])
def test_a_data_pixel_holds_the_event(data: str) -> None:
    for path in DATA_PIXELS:
        assert json.loads(event_of_pixel(path, urlencode({"data": data}).encode())) == EVENT


def test_a_plus_sign_of_base64_may_arrive_as_a_space() -> None:
    raw = b'{"event":"\xc3\xbb\xc3\xbb\xc3\xbe"}'
    data = next(text for pad in range(3) if "+" in (text := base64.b64encode(b" " * pad + raw).decode()))
    assert json.loads(event_of_pixel("/v1/pixel/track", b"data=" + data.encode())) == json.loads(raw)


@pytest.mark.parametrize("query", [b"", b"data=", b"data=%%%", b"other=e30", b"data=!!", b"data=" + b"A" * QUERY_BYTES_MAX])
def test_a_data_pixel_without_an_event_is_refused(query: bytes) -> None:
    with pytest.raises(Refused, match="invalid_pixel"):
        event_of_pixel("/v1/pixel/track", query)


def test_a_query_pixel_spells_the_event_out() -> None:
    query = (
        b"writeKey=k&anonymousId=a&event=Email+Opened&properties.color=red&properties.size.eu=42"
        b"&context=%7B%22page%22%3A%7B%22title%22%3A%22T%22%7D%7D&traits="
    )
    assert json.loads(event_of_pixel("/pixel/v1/track", query)) == {
        "writeKey": "k",
        "anonymousId": "a",
        "event": "Email Opened",
        "properties": {"color": "red", "size": {"eu": "42"}},
        "context": {"page": {"title": "T"}},
        "traits": None,
    }


@pytest.mark.parametrize(
    "query",
    [
        b"a=1&a.b=2",
        b"a.b.c.d.e.f.g.h.i.j.k=1",
        b"&".join(b"a%d=1" % number for number in range(300)),
        b"properties=x&properties.a=1",
        b"a=\xff",
    ],
)
def test_a_query_that_contradicts_itself_is_refused(query: bytes) -> None:
    with pytest.raises(Refused, match="invalid_pixel"):
        event_of_pixel("/pixel/v1/track", query)


def test_the_image_is_one_point() -> None:
    assert GIF[:6] == b"GIF89a" and GIF[6:10] == b"\1\0\1\0" and GIF[-1:] == b";"
