"""The outside contract about people: profiles by every reference, what lies behind them, and what was known when."""

import re
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.running.shop import EMAIL, Shop

PROFILE_ID = re.compile(r"pro_[0-9A-HJKMNP-TV-Z]{26}\Z")


def test_a_profile_by_every_reference(shop: Shop) -> None:
    api = shop.installation
    refs = [shop.profile_id, "user_id:anna", "anonymous_id%3Aanna-phone", "email:" + quote(EMAIL, safe=""), *shop.former]
    answers = [api.get(f"/api/profiles/{ref}") for ref in refs]
    assert {answer["profile_id"] for answer in answers} == {shop.profile_id}
    assert PROFILE_ID.match(shop.profile_id)
    assert len(shop.former) == 1
    found = answers[0]
    assert set(found) == {
        "profile_id",
        "also_known_as",
        "identifiers",
        "traits",
        "memberships",
        "consents",
        "first_seen_at",
        "last_seen_at",
        "as_of",
    }
    assert found["also_known_as"] == shop.former
    assert {(each["namespace"], each["value"]) for each in found["identifiers"]} == {
        ("user_id", "anna"),
        ("anonymous_id", "anna-phone"),
        ("email", EMAIL),
    }
    assert [(stay["segment"], stay["exited_at"]) for stay in found["memberships"]] == [("buyers", None)]
    named = {trait["name"]: trait for trait in found["traits"]}
    assert (named["name"]["value"], named["name"]["kind"], named["name"]["message_id"]) == ("Anna", "declared", "c-3")
    assert api.api("GET", "/api/profiles/user_id:nobody").status == 404
    assert api.api("GET", "/api/profiles/pro_00000000000000000000000000").status == 404


def test_numbers_come_back_as_they_were_sent(shop: Shop) -> None:
    raw = shop.installation.api("GET", f"/api/profiles/{shop.profile_id}").body.decode()
    assert '"value":12345678901234567890' in raw
    assert re.search(r'"value":0\.10?[,}]', raw)


def test_what_lies_behind_a_profile(shop: Shop) -> None:
    base = f"/api/profiles/{shop.profile_id}"
    timeline = shop.installation.get(f"{base}/timeline")
    assert [entry["message_id"] for entry in timeline["items"]] in (["c-4", "c-3", "c-2", "c-1"], ["c-3", "c-4", "c-2", "c-1"])
    identity = shop.installation.get(f"{base}/identity")
    kinds = {(link["left_value"], link["right_value"]): link["kind"] for link in identity["links"]}
    assert "observed" in kinds.values()
    assert {each["value"] for each in identity["identifiers"]} == {"anna", "anna-phone", EMAIL}
    stays = shop.installation.get(f"{base}/memberships")["items"]
    assert [(stay["segment"], stay["exited_at"]) for stay in stays] == [("buyers", None)]
    assert shop.installation.get(f"{base}/consents") == {"items": [], "next": None}


def test_why_someone_is_in_a_segment(shop: Shop) -> None:
    for ref in ("buyers", shop.segment["id"]):
        found = shop.installation.get(f"/api/profiles/user_id:anna/explain?segment={ref}")
        assert {"member", "conditions", "sentence"} <= set(found)
        assert [set(each) for each in found["conditions"]] == [{"condition", "value", "met"}]
        assert (found["member"], found["conditions"][0]["value"], found["conditions"][0]["met"]) == (True, 2, True)
        assert "Order Completed" in found["sentence"]
    other = shop.installation.get("/api/profiles/user_id:berta/explain?segment=buyers")
    assert (other["member"], other["conditions"][0]["value"], other["conditions"][0]["met"]) == (False, 1, False)


@pytest.mark.parametrize("what", ["", "/timeline", "/identity", "/memberships", "/explain?segment=buyers", "/consents"])
def test_every_question_about_a_person_can_be_asked_of_the_past(shop: Shop, what: str) -> None:
    position = shop.installation.sql("select position from events where message_id = 'c-2'")[0][0]
    path = f"/api/profiles/user_id:anna{what}{'&' if '?' in what else '?'}"
    now = shop.installation.get(path.rstrip("?&"))
    whole = shop.installation.get(f"{path}true_at={quote(datetime.now(UTC).isoformat())}")
    then = shop.installation.get(f"{path}known_at={position}")
    if what == "":
        assert {(each["namespace"], each["value"]) for each in then["identifiers"]} == {("user_id", "anna")}
        assert (then["traits"], then["memberships"], then["as_of"]) == ([], [], position)
        assert {trait["name"] for trait in whole["traits"]} == {trait["name"] for trait in now["traits"]}
    elif what == "/timeline":
        assert [entry["message_id"] for entry in then["items"]] == ["c-2"]
        assert whole["items"] == now["items"]
    elif what == "/identity":
        assert [each["value"] for each in then["identifiers"]] == ["anna"]
        assert len(whole["identifiers"]) == 3
        assert {link["kind"] for link in whole["links"]} == {link["kind"] for link in now["links"]}
        assert then["links"] == []
    elif what == "/memberships":
        assert then["items"] == []
        assert [stay["segment"] for stay in whole["items"]] == ["buyers"]
    elif what == "/consents":
        assert then == whole == now
    else:
        assert (then["member"], whole["member"]) == (False, True)
    missing = shop.installation.api("GET", f"{path}true_at=2001-01-01T00:00:00Z")
    assert missing.status == 404
