"""Fixtures of the fault tests: a `plane serve` that is checked for leaks after each test."""

import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from faults import FaultyServe  # noqa: E402  (behind the path)


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="plane-faults-") as directory:
        serve = FaultyServe(directory)
        try:
            serve.start()
            serve.leaks.take_baseline()
            yield serve
        finally:
            serve.stop()
        assert serve.leftovers() == []


@pytest.fixture
def plane(server):
    """The module's server; after the test nothing may be left of what the test did."""
    yield server
    server.end_all()
    server.leaks.wait_clean()
