"""A role is well while its report is fresh, its checks are empty and its loop comes round."""

from pathlib import Path

from conosco.model.answer import Sample
from conosco.model.moment import SECOND
from conosco.runtime.metrics import METRICS
from conosco.runtime.report import FRESH_US, STUCK_US, Report, Reporter, read_reports, trouble


class Clock:
    now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


def told(folder: Path, clock: Clock, **checks: str) -> Report:
    reporter = Reporter(folder, "worker", clock, lambda: [Sample("conosco_commits_total", (), 3)])
    reporter.turn(**checks)
    reporter.write()
    return read_reports(folder)["worker"]


def test_a_report_is_read_back(tmp_path: Path) -> None:
    report = told(tmp_path, Clock(), state="")
    assert (report.role, report.at, trouble(report, report.at)) == ("worker", Clock.now, "")
    assert {sample.metric for sample in report.samples} <= set(METRICS)
    assert Sample("conosco_commits_total", (), 3) in report.samples


def test_what_fails_is_told_by_its_code(tmp_path: Path) -> None:
    assert trouble(told(tmp_path, Clock(), log="", state="store_full"), Clock.now) == "store_full"


def test_an_old_report_is_none(tmp_path: Path) -> None:
    report = told(tmp_path, Clock())
    assert trouble(report, report.at + FRESH_US) == ""
    assert trouble(report, report.at + FRESH_US + 1) == "not_reporting"
    assert trouble(None, 0) == "not_reporting"


def test_a_loop_that_does_not_come_round_is_stuck(tmp_path: Path) -> None:
    clock = Clock()
    reporter = Reporter(tmp_path, "worker", clock)
    clock.now += STUCK_US + 1
    reporter.write()
    assert trouble(read_reports(tmp_path)["worker"], clock.now) == "stuck"


def test_a_torn_report_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "worker.report").write_bytes(b'{"role": "wor')
    (tmp_path / "sender.report.new").write_bytes(b"{}")
    assert read_reports(tmp_path) == {}


def test_a_folder_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "gone", "worker", Clock())
    reporter.write()
    assert read_reports(tmp_path / "gone") == {}


def test_a_role_that_ends_takes_its_report_with_it(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "run", "worker", Clock()).start()
    reporter.close()
    assert read_reports(tmp_path / "run") == {}
