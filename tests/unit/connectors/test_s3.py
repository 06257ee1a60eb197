"""The S3 place against a small strict server that checks signatures by itself: the suite of all places, parts, walls."""

import time
from collections.abc import Iterator
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from conosco.connectors.place import Place, PlaceContext, PlaceFailed
from conosco.connectors.places import s3
from conosco.model.problem import Refused
from conosco.testing.conformance.places import PlaceConformance
from tests.unit.connectors.s3_server import BUCKET, KEY_ID, REGION, SECRET, S3Server


def open_with(port: int, **spec: Any) -> Place:
    whole = {
        "endpoint": f"http://127.0.0.1:{port}",
        "bucket": BUCKET,
        "region": REGION,
        "access_key": KEY_ID,
        "secret_key": {"secret": "bucket"},
        "prefix": "crm/in",
        "allow_private": True,
        **spec,
    }
    context = PlaceContext(
        root=None,
        networks=(ip_network("127.0.0.0/8"),),
        secret={"bucket": SECRET.encode(), "wrong": b"wrong"}.get,
        clock=lambda: time.time_ns() // 1_000,
        scratch=Path("/nonexistent"),
    )
    return s3.open_place(s3.read_settings(whole), context)


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as made:
        yield made


@pytest.fixture
def place(server: S3Server) -> Place:
    return open_with(server.server_address[1])


class TestS3(PlaceConformance):
    pass


def test_a_long_list_comes_in_pages(place: Place, server: S3Server) -> None:
    server.objects |= {f"crm/in/{number}.csv": b"x" for number in range(7)} | {"crm/in/deep/a.csv": b"", "crm/other.csv": b""}
    assert [entry.name for entry in place.list()] == [f"{number}.csv" for number in range(7)]


def test_a_large_file_goes_in_parts(place: Place, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 1_000)
    body = bytes(range(250)) * 14
    (tmp_path / "large").write_bytes(body)
    place.put(tmp_path / "large", "large.bin")
    assert (server.completed_parts, server.uploads) == (4, {})
    assert place.get("large.bin", tmp_path / "got", len(body)) == sha256(body).hexdigest()


def test_the_example_of_the_specification_is_signed_as_it_says() -> None:
    """GET Object of "Signature Calculations for the Authorization Header", Amazon S3 API Reference."""
    empty = sha256(b"").hexdigest()
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": empty,
        "x-amz-date": "20130524T000000Z",
    }
    secret = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    made = s3.sign("GET", "/test.txt", "", headers, "AKIAIOSFODNN7EXAMPLE", secret, "us-east-1")
    assert made.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"secret_key": {"secret": "wrong"}}, "place_denied"),
        ({"bucket": "another-one"}, "place_failed"),
        ({"allow_private": False}, "place_address_refused"),
        ({"endpoint": "http://127.0.0.1:1"}, "place_unreachable"),
    ],
)
def test_trouble_has_a_name(server: S3Server, spec: dict[str, Any], code: str) -> None:
    with pytest.raises(PlaceFailed) as failed:
        open_with(server.server_address[1], **spec).list()
    assert failed.value.code == code


@pytest.mark.parametrize(
    "spec",
    [
        {"endpoint": "http://127.0.0.1/path"},
        {"endpoint": "ftp://x"},
        {"bucket": "../x"},
        {"prefix": "/x"},
        {"prefix": "a/../b"},
        {"region": "a/b"},
        {"access_key": "a\r\nb"},
    ],
)
def test_what_could_mean_something_else_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        open_with(1, **spec)
