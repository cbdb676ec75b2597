"""Nothing is allowed to a backend that Docker's default does not allow to a container."""

import pytest

import comparison

pytestmark = pytest.mark.timeout(110)


@pytest.fixture(scope="module")
def found():
    docker, plane = comparison.gather()
    return comparison.rows(docker, plane)


def test_no_row_is_weaker_than_dockers_default(found):
    assert [row for row in found if row[3] == "weaker"] == []


def test_docker_allows_what_the_escape_tests_try(found):
    """The attempts can succeed: those that Docker lets through."""
    reached = {what: docker for what, docker, _, _ in found if what.startswith("reaches: ")}
    assert list(reached.values()).count("yes") >= 4, reached


def test_the_documented_table_is_of_these_rows(found):
    documented = comparison.documented()
    assert [what for what, _ in documented] == [row[0] for row in found], "make security-table"
    assert "weaker" not in [verdict for _, verdict in documented]
