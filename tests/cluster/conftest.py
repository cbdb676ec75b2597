"""Fixtures of the cluster tests: a whole cluster for each file, which is looked at after each test.
A file's FLAGS are those of its controllers."""

import pytest

from cluster import MACHINES, UPTIMES, Cluster
from hosts import Hosts

LOG_BYTES = 6000  # of each role, that is shown with a failed test


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "cluster":
            item.add_marker(pytest.mark.fault)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if cluster and call.when != "setup":
        logs = cluster.logs() if report.failed else []
        for name, text in logs:
            if text:
                report.sections.append((f"log of {name}", text[-LOG_BYTES:]))


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    with Hosts(*MACHINES, uptimes=UPTIMES) as hosts:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), hosts,
                          getattr(request.module, "FLAGS", ()))
        try:
            yield cluster.start()
        finally:
            cluster.stop()


@pytest.fixture
def cluster(whole):
    """The file's cluster. After the test all that was broken is repaired, and all books agree."""
    yield whole
    whole.close_tunnels()
    whole.repair()
    whole.end_all()
    whole.settle()
