"""What is printed to be copied: with address and key, and never a server's key for a page."""

import pytest

from conosco.cli.snippets import TITLES, snippets
from conosco.model.definition import SourceType

URL = "https://cdp.example"


@pytest.mark.parametrize(
    ("kind", "names"),
    [("browser", ["browser", "pixel", "curl"]), ("app", ["curl", "pixel"]), ("server", ["python", "node", "curl"])],
)
def test_each_type_of_source_has_its_own(kind: SourceType, names: list[str]) -> None:
    made = snippets(kind, URL, "k3y")
    assert list(made) == names
    for name, text in made.items():
        assert TITLES[name] and "k3y" in text and URL in text and "@" not in text.replace("@segment", "")


def test_a_key_cannot_break_out_of_the_pixel() -> None:
    assert "writeKey=a%22%3E%26b&amp;" in snippets("browser", URL, 'a">&b')["pixel"]
