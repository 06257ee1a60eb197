"""Touches: which events belong to visits, and what they tell of page, campaign and device."""

from typing import Any

import pytest

from conosco.collect.agent import AGENT_CHARACTERS_MAX, Agent, agent_of
from conosco.collect.touch import ADDRESS_CHARACTERS_MAX, CLICK_IDS, touch_of
from tests.unit.collect.requests import event_of

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 "
    "Mobile/15E148 Safari/604.1"
)
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
URL = "https://shop.example/lamp"


def touched(**fields: Any) -> dict[str, Any] | None:
    return touch_of(event_of({"userId": "ada", "messageId": "m1", **fields}))


def of_page(context: Any = None, **properties: Any) -> dict[str, Any]:
    found = touched(type="page", name="Home", properties=properties, context=context or {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "page"}, True),
        ({"type": "screen", "name": "Start"}, True),
        ({"type": "track", "event": "Viewed"}, False),
        ({"type": "track", "event": "Viewed", "context": {"page": {}}}, False),
        ({"type": "track", "event": "Viewed", "context": {"page": "x"}}, False),
        ({"type": "track", "event": "Viewed", "context": {"page": {"path": "/"}}}, True),
        ({"type": "track", "event": "Viewed", "context": {"screen": {"width": 390}}}, True),
        ({"type": "identify", "context": {"page": {"path": "/"}}}, False),
        ({"type": "page", "context": {"userAgent": "curl/8.0"}}, False),
    ],
)
def test_which_events_belong_to_visits(fields: dict[str, Any], expected: bool) -> None:
    assert (touched(**fields) is not None) is expected


def test_the_device_is_the_anonymous_id_else_the_home() -> None:
    found = touched(type="page", anonymousId="a1")
    assert found is not None
    assert [found[name] for name in ("device_namespace", "device_value", "home_namespace", "home_value")] == [
        "anonymous_id", "a1", "user_id", "ada",
    ]  # fmt: skip
    found = touched(type="page", anonymousId="00000000-0000-0000-0000-000000000000")
    assert found is not None
    assert (found["device_namespace"], found["device_value"]) == ("user_id", "ada")


def test_addresses_lose_what_tells_of_the_person() -> None:
    assert of_page(url=f"{URL}?email=a@b.example#x")["page"] == URL
    assert of_page({"page": {"url": URL, "referrer": "https://r.example/"}})["referrer"] == "https://r.example/"
    assert of_page(path="/lamp")["page"] == "/lamp"
    assert of_page()["page"] == "Home"
    assert len(of_page(url="https://x.example/" + "y" * 5_000)["page"]) == ADDRESS_CHARACTERS_MAX
    screen = touched(type="screen", name="Start", context={"page": {"url": URL}})
    assert screen is not None and screen["page"] == "Start"


def test_campaigns_come_from_the_context_else_from_the_address() -> None:
    found = of_page(
        {"campaign": {"name": "spring", "source": "news"}}, url=f"{URL}?utm_source=other&utm_medium=email&utm_medium=x&gclid=1"
    )
    assert {name: found.get(name) for name in ("utm_campaign", "utm_source", "utm_medium", "utm_term", "click_id")} == {
        "utm_campaign": "spring", "utm_source": "news", "utm_medium": "email", "utm_term": None, "click_id": "gclid",
    }  # fmt: skip
    assert "utm_source" not in of_page(url=f"{URL}#?utm_source=x")


@pytest.mark.parametrize("mark", CLICK_IDS)
def test_of_a_click_only_the_kind_of_mark_is_kept(mark: str) -> None:
    found = of_page(url=f"{URL}?{mark}=secret-value")
    assert found["click_id"] == mark
    assert "secret-value" not in str(found)


def test_a_query_without_end_is_read_to_its_limit() -> None:
    assert of_page(url=f"{URL}?utm_source=a&" + "&".join(f"p{number}=1" for number in range(300)))["utm_source"] == "a"


@pytest.mark.parametrize(
    "context", [{"page": 7, "campaign": [], "userAgent": 3, "location": "IT", "os": None, "userAgentData": 5}, {}]
)
def test_odd_values_tell_nothing(context: Any) -> None:
    assert set(of_page(context)) & {"referrer", "browser", "os", "country", "utm_source"} == set()


def test_country_and_system_as_given() -> None:
    found = of_page({"location": {"country": "IT"}, "os": {"name": "iOS", "version": "17.2"}})
    assert (found["country"], found["os"], found["os_version"]) == ("IT", "iOS", "17.2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IPHONE, Agent("Mobile Safari", "17.2", "iOS", "17.2", "mobile")),
        (CHROME, Agent("Chrome", "120.0", "Windows", "10", "desktop")),
        ("Mozilla/5.0 (Linux; Android 13; SM-X200) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
         Agent("Chrome", "120.0", "Android", "13", "tablet")),
        ("Mozilla/5.0 (Linux; Android 13; SM-G99) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
         Agent("Chrome Mobile", "120.0", "Android", "13", "mobile")),
        ("nothing known", Agent()),
        ("", Agent()),
    ],
)  # fmt: skip
def test_user_agents_are_read(text: str, expected: Agent) -> None:
    assert agent_of(text) == expected


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (b'{"platform":"Windows","platformVersion":"15.0.0","mobile":false}', ("Windows", "11", "desktop")),
        (b'{"platform":"Windows","platformVersion":"10.0.0"}', ("Windows", "10", "desktop")),
        (b'{"platform":"macOS","platformVersion":"14.2.1"}', ("Mac OS X", "14.2", "desktop")),
        (b'{"platform":"Android","mobile":true}', ("Android", None, "mobile")),
        (b'{"platform":7,"mobile":"x","brands":[{"brand":1}]}', ("Windows", "10", "desktop")),
        (b'{"brands":"x"}', ("Windows", "10", "desktop")),
        (b"{", ("Windows", "10", "desktop")),
    ],
)
def test_hints_win_where_they_can_be_read(hints: bytes, expected: tuple[str, str | None, str]) -> None:
    assert agent_of(CHROME, hints)[2:] == expected


def test_hints_fill_in_a_browser_that_the_user_agent_does_not_name() -> None:
    hints = b'{"brands":[{"brand":"Not_A Brand","version":"8"},{"brand":"Chromium","version":"120"},{"brand":"Brave","version":"120"}]}'
    assert agent_of("", hints)[:2] == ("Brave", "120")


def test_a_long_user_agent_is_cut() -> None:
    assert agent_of(CHROME + "x" * AGENT_CHARACTERS_MAX + "Firefox/1").browser == "Chrome"
