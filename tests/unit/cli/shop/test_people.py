"""The shop's people do not exist, are the same for the same seed, and can be reached by nobody."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conosco.cli.shop.messages import contact_points
from conosco.cli.shop.people import Person, invent, plain
from conosco.cli.shop.places import COUNTRIES
from conosco.cli.shop.visits import spelt_phone, traits_of

RESERVED = ("example.com", "example.net", "example.org", "work.example", "throwaway.example")


@pytest.fixture(scope="module")
def people() -> list[Person]:
    """Many people."""
    return invent(3_000, 1)


def test_fewer_people_are_the_first_of_more(people: list[Person]) -> None:
    assert invent(500, 1) == people[:500]
    assert invent(500, 2) != people[:500]


def test_addresses_are_of_reserved_domains_and_of_one_person_each(people: list[Person]) -> None:
    used = Counter(
        address
        for person in people
        for address in (person.email, person.second_email, person.misspelt_email, person.throwaway)
        if address is not None
    )
    assert all(address.partition("@")[2] in RESERVED and address.isascii() for address in used)
    assert max(used.values()) == 1


def test_numbers_are_of_nobody(people: list[Person]) -> None:
    numbers = {person.phone: person.country.code for person in people if person.phone is not None}
    assert {"IT", "PL", "PT", "DE", "GB"} == set(numbers.values())
    for number, country in numbers.items():
        if country in {"IT", "PL", "PT"}:
            assert number.removeprefix(next(each.calling for each in COUNTRIES if each.code == country)).startswith("000")
        elif country == "GB":
            assert number.startswith(("+447700900", "+4420794", "+441", "+441632960"))
        else:
            assert number.startswith(("+493023125", "+496990009", "+494066969", "+492214710", "+498999998"))


def test_people_differ_in_what_makes_them_hard_to_know(people: list[Person]) -> None:
    assert {person.standing for person in people} == {"customer", "guest", "visitor"}
    tablets = Counter(device.anonymous_id for person in people for device in person.devices)
    assert {1, 2, 3, 4} == set(tablets.values())
    phones = Counter(person.phone for person in people if person.phone)
    assert max(phones.values()) > 1
    for is_so in (
        lambda person: len(person.user_ids) == 2,
        lambda person: person.misspelt_email is not None,
        lambda person: any(device.private for device in person.devices),
        lambda person: any(device.clock_off for device in person.devices),
        lambda person: plain(person.last_name) != person.last_name,
    ):
        assert any(map(is_so, people))


@given(number=st.integers(0, 199), seed=st.integers(0, 1_000))
def test_however_a_number_is_spelt_it_is_read_as_one_of_two(number: int, seed: int) -> None:
    person = invent(200, 1)[number]
    if person.phone is None:
        return
    read = contact_points({"phone": spelt_phone(person.phone, person.country, Random(seed))})
    trunk = person.country.trunk
    own = trunk + person.phone.removeprefix(person.country.calling) if trunk else person.phone[1:]
    assert read in ((("phone", person.phone),), (("phone", own),))


@given(seed=st.integers(0, 1_000))
def test_forms_bring_an_address_of_the_person(seed: int) -> None:
    person = invent(5, 1)[seed % 5]
    traits = traits_of(person, Random(seed))
    assert traits["email"].strip().lower() in {person.email, person.second_email, person.misspelt_email}
    assert traits["country"] == person.country.code
