"""What all tests share: profiles of Hypothesis, and the rule that a skipped test must be named with its reason."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")

# Shared machines are slow at times, so no example has a deadline. In `ci` the examples are always the same.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--strict-skips``, which continuous integration sets."""
    parser.addoption("--strict-skips", action="store_true", help="fail if a skipped test is not in tests/allowed_skips.txt")


def pytest_configure(config: pytest.Config) -> None:
    """Watch skipped tests if asked to."""
    if config.getoption("--strict-skips"):
        config.pluginmanager.register(SkipWatch(read_allowed(ALLOWED_SKIPS.read_text())), "skip-watch")


class SkipWatch:
    """Fails the run if a test was skipped that is not allowed to be."""

    def __init__(self, allowed: list[re.Pattern[str]]) -> None:
        self.allowed = allowed
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test; an expected failure is reported as skipped too and is none."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped as a whole."""
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a good end into a bad one if there is an unlisted skip."""
        if unlisted(self.skipped, self.allowed) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the unlisted skips."""
        for nodeid in unlisted(self.skipped, self.allowed):
            terminalreporter.write_line(f"UNLISTED SKIP {nodeid}: let it run, or add it to tests/allowed_skips.txt", red=True)


def read_allowed(text: str) -> list[re.Pattern[str]]:
    """Read lines of ``pattern  # reason``; a pattern matches a whole test id. Raises ValueError where a reason is missing."""
    patterns = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition("  # ")
            if not reason.strip():
                raise ValueError(f"a skip needs a reason, after two blanks and #: {line}")
            patterns.append(re.compile(pattern.strip()))
    return patterns


def unlisted(skipped: Iterable[str], allowed: list[re.Pattern[str]]) -> list[str]:
    """The skipped tests that no pattern allows."""
    return [nodeid for nodeid in skipped if not any(pattern.fullmatch(nodeid) for pattern in allowed)]
