"""For all tests: where they find each other, which marks they may carry, and what the leak checks
found in sum."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "integration"))

from leaks import Leaks  # noqa: E402  (behind the path)


def pytest_configure(config):
    config.addinivalue_line("markers", "fault: one of the faults that `make test-faults` covers")
    config.addinivalue_line("markers", "long: left out of `make test`")


def pytest_terminal_summary(terminalreporter):
    looks, found = Leaks.looks, Leaks.found
    if looks:
        terminalreporter.write_line(f"leak check: {looks} looks, " + (
            f"something was left after {found}" if found else "nothing found"))
