"""The shop that most questions are asked about; and a failed test of an installation shows what its processes wrote."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import Installation
from tests.running.shop import Shop
from tests.running.sink import Sink


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each installation's journal to the report."""
    report = yield
    if report.failed:
        values: list[Any] = list(getattr(item, "funcargs", {}).values())
        for value in values:
            for each in value if isinstance(value, list) else [value]:
                running = getattr(each, "installation", each)
                if isinstance(running, Installation):
                    report.sections.append((f"journal of {running.url}", running.journal_tail()))
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an installation of one test lies."""
    return tmp_path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One shop for all questions; what a test adds does not change what others ask about."""
    with Sink() as sink, Installation(tmp_path_factory.mktemp("contract")) as installation:
        yield Shop(installation, sink)
