"""A failed test of a whole installation shows what its processes wrote."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.running.installation import Installation


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
