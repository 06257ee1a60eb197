"""Signatures of webhooks: what the senders' own package makes is genuine, and nothing else is."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from conosco.model.definition import HmacSignature, SecretName, StandardSignature
from conosco.web.hook_signature import header_id, is_genuine, standard_key

NAME = SecretName(secret="s")
NOW = 1_772_366_400
MICROS = 1_000_000
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
STANDARD = StandardSignature(secret=NAME)


def standard(body: str, message_id: str = "msg_1", at: int = NOW, name: str = "webhook") -> dict[bytes, bytes]:
    signature = Webhook(SECRET).sign(message_id, datetime.fromtimestamp(at, UTC), body)
    told = {"id": message_id, "timestamp": str(at), "signature": f"v1,AAAA {signature} v2,x"}
    return {f"{name}-{part}".encode(): value.encode() for part, value in told.items()}


def is_standard(headers: dict[bytes, bytes], body: str, secret: str = SECRET, now: int = NOW) -> bool:
    return is_genuine(STANDARD, secret.encode(), headers, body.encode(), now * MICROS)


@pytest.mark.parametrize("name", ["webhook", "svix"])
@given(
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=50), message_id=st.text("abc_.-123", min_size=1, max_size=20)
)
def test_what_the_package_signs_is_genuine(name: str, body: str, message_id: str) -> None:
    assert is_standard(standard(body, message_id, name=name), body)


@pytest.mark.parametrize("age", [-301, 301, 100_000])
def test_an_old_signature_is_not(age: int) -> None:
    assert not is_standard(standard("{}"), "{}", now=NOW + age)
    assert is_standard(standard("{}"), "{}", now=NOW + 299)


@pytest.mark.parametrize("changed", ["id", "timestamp", "signature", "body", "secret"])
def test_a_change_anywhere_is_seen(changed: str) -> None:
    headers, body, secret = standard("{}"), "{}", SECRET
    match changed:
        case "body":
            body = "{ }"
        case "secret":
            secret = "whsec_" + base64.b64encode(bytes(24)).decode()
        case "timestamp":
            headers[b"webhook-timestamp"] = str(NOW + 1).encode()
        case "id":
            headers[b"webhook-id"] = b"msg_2"
        case _:
            headers[b"webhook-signature"] = headers[b"webhook-signature"].replace(b" v1,", b" v1,x")
    assert not is_standard(headers, body, secret)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_or_odd_is_no_signature(missing: str) -> None:
    headers = standard("{}")
    assert not is_standard({name: value for name, value in headers.items() if name != missing.encode()}, "{}")
    for odd in (b"", b"-1", b"1e9", b"\xff", b"9" * 400):
        assert not is_standard({**headers, missing.encode(): odd}, "{}")


def test_a_secret_without_the_prefix_is_taken_as_it_is() -> None:
    assert standard_key(b"plain") == b"plain"
    assert standard_key(b"whsec_AAECAw") == b"\x00\x01\x02\x03"
    assert standard_key(b"whsec_!") == b"whsec_!"


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
@pytest.mark.parametrize("timed", [False, True])
def test_a_header_with_an_hmac(algorithm: Any, encoding: Any, prefix: str, timed: bool) -> None:
    declared = HmacSignature(
        secret=NAME,
        header="X-Sig",
        algorithm=algorithm,
        encoding=encoding,
        prefix=prefix,
        timestamp_header="X-Time" if timed else "",
    )
    body = b'{"a":1}'
    signed = b"%d.%b" % (NOW, body) if timed else body
    made = hmac.new(b"key", signed, getattr(hashlib, algorithm)).digest()
    text = (made.hex() if encoding == "hex" else base64.b64encode(made).decode()).encode()
    headers = {b"x-sig": prefix.encode() + text, b"x-time": b"%d" % NOW}

    def check(now: int = NOW, key: bytes = b"key", said: bytes = body, **changed: bytes) -> bool:
        told = {**headers, **{name.replace("_", "-").encode(): value for name, value in changed.items()}}
        return is_genuine(declared, key, told, said, now * MICROS)

    assert check()
    assert not check(key=b"other")
    assert not check(said=body + b" ")
    assert not check(x_sig=b"")
    assert not check(x_sig=headers[b"x-sig"][:-2])
    assert not check(x_sig=b"\xff\xfe")
    assert check(now=NOW + 1_000) is not timed
    assert check(x_time=b"1") is not timed


@given(given_text=st.binary(max_size=40), secret=st.binary(max_size=20))
def test_nothing_breaks_and_guesses_are_wrong(given_text: bytes, secret: bytes) -> None:
    headers = {b"webhook-id": b"m", b"webhook-timestamp": b"%d" % NOW, b"webhook-signature": given_text, b"x": given_text}
    for declared in (STANDARD, HmacSignature(secret=NAME, header="x"), HmacSignature(secret=NAME, header="x", encoding="base64")):
        assert not is_genuine(declared, secret, headers, b"{}", NOW * MICROS)


def test_the_senders_id_is_found() -> None:
    assert header_id({b"webhook-id": b"a", b"idempotency-key": b"b"}) == "a"
    assert header_id({b"idempotency-key": b"b"}) == "b"
    assert header_id({}) == ""
