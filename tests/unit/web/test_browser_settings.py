"""What SDKs in browsers fetch: addresses, settings that name only us, and the tag as it was published."""

import gzip
import hashlib
import json
import re
from importlib.resources import files

import pytest

from conosco.model.problem import Refused
from conosco.web.browser_settings import Wanted, load_tag, project_settings, source_config, wanted


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/projects/k/settings", Wanted("project", "k")),
        ("/analytics.js/v1/projects/k/settings", Wanted("project", "k")),
        ("/analytics.js/v1/k/analytics.min.js", Wanted("tag", "k")),
        ("/analytics.js/v1/k/analytics.js", Wanted("tag", "k")),
        ("/sourceConfig", Wanted("source_config", "")),
        ("/sourceConfig/", Wanted("source_config", "")),
        ("/v1/projects//settings", None),
        ("/v1/projects/a/b/settings", None),
        ("/analytics.js/v1/k/other.js", None),
        ("/sourceConfigs", None),
        ("/v1/other", None),
    ],
)
def test_addresses(path: str, found: Wanted | None) -> None:
    assert wanted(path) == found


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [b"cdp.example.com", b"127.0.0.1:8000", b"[::1]:8000"])
def test_events_go_where_the_settings_came_from_and_nowhere_else(scheme: str, host: bytes) -> None:
    raw = project_settings("k", scheme, host)
    segment = json.loads(raw)["integrations"]["Segment.io"]
    assert (segment["apiKey"], segment["apiHost"], segment["protocol"]) == ("k", f"{host.decode()}/v1", scheme)
    assert set(json.loads(raw)["integrations"]) == {"Segment.io"}
    # The script tells its maker how it is used unless the rate is zero.
    assert json.loads(raw)["metrics"]["sampleRate"] == 0
    assert b"segment.com" not in raw


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b"a:x", b'a"', b"a@b", b"x" * 300])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    with pytest.raises(Refused, match="bad_host"):
        project_settings("k", "http", host)


def test_the_other_sdk_is_told_of_its_source() -> None:
    source = json.loads(source_config("k", "src_1", False))["source"]
    assert (source["id"], source["writeKey"], source["enabled"], source["destinations"]) == ("src_1", "k", False, [])


def test_the_tag_is_the_published_file() -> None:
    tag = load_tag()
    readme = (files("conosco.web") / "tag" / "README.md").read_text()
    told = re.search(r"\| sha256 \| ([0-9a-f]{64}) \|", readme)
    assert told is not None and hashlib.sha256(tag.plain).hexdigest() == told[1]
    assert gzip.decompress(tag.packed) == tag.plain
    assert "MIT License" in (files("conosco.web") / "tag" / "LICENSE").read_text()
