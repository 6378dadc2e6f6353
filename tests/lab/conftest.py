"""Run the tests of guest/ in the lab. pytest collects and selects them here, up to three boots run all that were selected, and
the reports of each (setup, call, teardown) come back as if it had run here. Inside the lab this file does nothing.
"""

import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.lab.boot import Machine, missing_packages

GUEST = Path(__file__).parent / "guest"
INSIDE = "CORONER_LAB" in os.environ
NOTHING_MAY_BE_SKIPPED = os.environ.get("CI") == "true"

TEST_SECONDS = 480  # a slower test is failed inside, by pytest-timeout, with its stack
HANG_SECONDS = 120  # no report after that much more: the guest itself hangs
BOOT_SECONDS = 240
MOST_GUESTS = 3
SECONDS = {
    "test_agent": 95,
    "test_announced": 5,
    "test_blind": 90,
    "test_casebook": 195,
    "test_check": 95,
    "test_death_facts": 60,
    "test_deaths": 145,
    "test_deaths_cri": 135,
    "test_deaths_podman": 70,
    "test_docker_facts": 60,
    "test_docker_names": 80,
    "test_exits": 70,
    "test_headroom": 45,
    "test_image": 240,
    "test_init": 80,
    "test_isolation": 50,
    "test_kernel_log": 135,
    "test_kind": 10,
    "test_lab_itself": 15,
    "test_last_words": 85,
    "test_layers": 40,
    "test_leftovers": 110,
    "test_life": 60,
    "test_names": 80,
    "test_oom": 140,
    "test_podman": 10,
    "test_prometheus": 80,
    "test_runtimes": 40,
    "test_systemd": 35,
    "test_traced": 40,
    "test_zombies": 10,
}
"""What files took, measured once, so that the guests end together; a test of one that is not here counts as SECONDS_A_TEST."""
SECONDS_A_TEST = 8
PANIC = "Kernel panic - not syncing"
MOST_PANICS = 2
PANICKED_IN: list[str] = []
WORTH_A_BOOT = 10


class Guest:
    """One boot with its share of the tests, and the reports that came out of it so far."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests
        self._machine = _boot(tests)
        self._panics = 0
        self._is_lost = False
        self._reports: dict[str, list[Mapping[str, object]]] = defaultdict(list)
        self._finished: set[str] = set()
        self._lines_read = 0
        self._deadline = time.monotonic() + BOOT_SECONDS + TEST_SECONDS + HANG_SECONDS

    def run(self, nodeid: str) -> list[Mapping[str, object]]:
        """Return the reports of one test as soon as it has finished; fail when it never will."""
        if self._is_lost and nodeid not in self._finished:
            pytest.fail("the lab was lost in an earlier test", pytrace=False)
        while nodeid not in self._finished:
            ended = self._machine.has_ended()
            self._receive(self._machine.shared / "reports")
            if ended and nodeid not in self._finished and PANIC in self._machine.console() and self._panics < MOST_PANICS:
                self._boot_again()
            elif (ended or time.monotonic() > self._deadline) and nodeid not in self._finished:
                self._is_lost = True
                console = self._machine.console()[-8000:]
                self._machine.stop()
                pytest.fail(f"the lab {'went off' if ended else 'hangs'}; its console ends with:\n{console}", pytrace=False)
            time.sleep(0.05)
        return self._reports.pop(nodeid)

    def stop(self) -> None:
        """Leave nothing running."""
        self._machine.stop()

    def _boot_again(self) -> None:
        """Run what was not finished once more: user-mode Linux panics when the OOM killer comes between a read(2) and its page fault."""
        self._panics += 1
        self._machine.stop()
        self._tests = [test for test in self._tests if test not in self._finished]
        self._reports = defaultdict(list, {test: found for test, found in self._reports.items() if test in self._finished})
        PANICKED_IN.append(self._tests[0])
        self._machine = _boot(self._tests)
        self._lines_read = 0
        self._deadline = time.monotonic() + BOOT_SECONDS + TEST_SECONDS + HANG_SECONDS

    def _receive(self, file: Path) -> None:
        lines = file.read_text(encoding="ascii").split("\n")[:-1] if file.exists() else []
        for line in map(json.loads, lines[self._lines_read :]):
            # It is alive, if perhaps not yet at the test that is asked for.
            self._deadline = time.monotonic() + TEST_SECONDS + HANG_SECONDS
            if "finished" in line:
                self._finished.add(line["finished"])
            else:
                self._reports[line["nodeid"]].append(line)
        self._lines_read = len(lines)


class Lab:
    """The boots of a test run, one more than there are processors: a guest has one, and waits a third of its time."""

    def __init__(self, tests: Sequence[pytest.Item]) -> None:
        self._guest_of: dict[str, Guest] = {}
        self._guests: list[Guest] = []
        for share in _shares(tests, min(MOST_GUESTS, (os.cpu_count() or 1) + 1)):
            self._guests.append(Guest([test.nodeid for test in share]))
            self._guest_of.update(dict.fromkeys((test.nodeid for test in share), self._guests[-1]))

    def run(self, item: pytest.Item) -> list[Mapping[str, object]]:
        """Return the reports of one test as soon as it has finished; fail when it never will."""
        return self._guest_of[item.nodeid].run(item.nodeid)

    def close(self) -> None:
        """Leave nothing running."""
        for guest in self._guests:
            guest.stop()


LAB = pytest.StashKey[Lab]()


def runs_inside(item: pytest.Item) -> bool:
    """Say whether a test belongs to the lab."""
    return item.path.is_relative_to(GUEST)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test of the lab, and leave its timeout to the lab."""
    if runs_inside(item):
        item.add_marker("lab")
        if not INSIDE:
            item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Switch the lab on."""
    tests = [item for item in session.items if runs_inside(item)]
    if tests and not (INSIDE or session.config.option.collectonly or missing_packages()):
        session.stash[LAB] = Lab(tests)


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run a test of the lab in the lab."""
    if INSIDE or not runs_inside(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests of the lab have printed: tables of deaths and verdicts."""
    for test in PANICKED_IN:
        terminalreporter.write_line(f"the lab's kernel panicked in {test}, which was run again in a new one")
    for report in terminalreporter.getreports("passed"):
        if not INSIDE and report.when == "call" and "/lab/guest/" in report.nodeid and report.capstdout:
            terminalreporter.section(report.nodeid.rpartition("::")[2].replace("_", " ").removeprefix("test "))
            terminalreporter.write(report.capstdout)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Switch the lab off."""
    if LAB in session.stash:
        session.stash[LAB].close()


def _shares(tests: Sequence[pytest.Item], most: int) -> list[list[pytest.Item]]:
    """Deal the files out, the longest first: a file's tests may share what they start. A few tests are not worth a second boot."""
    files: dict[Path, list[pytest.Item]] = defaultdict(list)
    for test in tests:
        files[test.path].append(test)
    shares: list[list[pytest.Item]] = [[] for _ in range(most if len(tests) > WORTH_A_BOOT else 1)]
    for file in sorted(files.values(), key=_seconds, reverse=True):
        min(shares, key=_seconds).extend(file)
    return [sorted(share, key=tests.index) for share in shares if share]


def _seconds(tests: Sequence[pytest.Item]) -> float:
    """Estimate how long tests take, of whole files."""
    files = Counter(test.path.stem for test in tests)
    return sum(SECONDS.get(name, count * SECONDS_A_TEST) for name, count in files.items())


def _boot(tests: Sequence[str]) -> Machine:
    command = [sys.executable, "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "-p", "tests.lab.inside"]
    return Machine([*command, f"--timeout={TEST_SECONDS}", "@/run/lab/tests"], files={"tests": "\n".join(tests)})


def _cannot(reason: str) -> NoReturn:
    if NOTHING_MAY_BE_SKIPPED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _run(item: pytest.Item) -> list[Mapping[str, object]]:
    if missing := missing_packages():
        _cannot(f"the lab needs these Debian packages: {' '.join(missing)}")
    return item.session.stash[LAB].run(item)


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    call = pytest.CallInfo.from_call(lambda: _run(item), when="call", reraise=KeyboardInterrupt)
    if call.excinfo is not None:
        return [item.ihook.pytest_runtest_makereport(item=item, call=call)]
    return [_restored(item.config, line) for line in call.result]


def _restored(config: pytest.Config, line: Mapping[str, object]) -> pytest.TestReport:
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=line)
    if isinstance(report.longrepr, list):  # where and why a test was skipped, as pytest keeps it; JSON has no tuples
        path, lineno, reason = report.longrepr
        report.longrepr = path, lineno, reason
        if NOTHING_MAY_BE_SKIPPED:
            report.outcome, report.longrepr = "failed", f"{path}:{lineno}: with CI=true nothing may be skipped: {reason}"
    return report
