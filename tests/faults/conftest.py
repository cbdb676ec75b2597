"""Fixtures of the fault tests: a `plane serve` that is checked for leaks after each test."""

import tempfile

import pytest

from faults import FaultyServe


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.fault)


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
