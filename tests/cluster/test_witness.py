"""The judgement about what backends wrote down: it finds overlaps that were planted, as text and with real
processes."""

import pytest

import witness


def told(*lines):
    return witness.Testimony("".join(f"{line}\n" for line in lines)).problems


def test_backends_one_after_the_other_are_fine():
    assert told("start a 5 100", "beat a 5 120", "start b 7 50", "beat b 7 70") == []


@pytest.mark.parametrize("lines, problem", [
    # the earlier one writes once more after the later one's first line
    (["start a 5 100", "start b 7 200", "beat a 5 210"], "a (token 5) wrote 1 lines over 0 ms"),
    (["start a 5 0", "start b 7 9", "beat a 5 1000", "beat b 7 10", "beat a 5 41000"],
     "a (token 5) wrote 2 lines over 40 ms"),
    # not its neighbour, but one long before
    (["start a 5 0", "start b 7 9", "start c 8 9", "beat a 5 1000"], "a (token 5) wrote"),
    (["start a 5 100", "doubled b 7 200"], "b began while another one was alive"),
    (["start a 7 100", "start b 5 200"], "token 5 of b came after 7 of a"),
    (["start a 7 100", "start b 7 200"], "token 7 of b came after 7 of a"),
    (["start a 5 100", "beat a 6 200"], "a had tokens 5 and 6"),
    (["beat a 5 100"], "a ran before its start"),
    (["start a 5 100", "start a 5 200"], "a began twice"),
    (["start a 5 100", "beat a 5 90"], "the clock of a went back"),
    (["start a 5 100", "beat a 5"], "line 2 is none"),
    (["start a five 100"], "line 1 is none"),
    (["end a 5 100"], "line 1 is none")])
def test_what_is_wrong_is_told(lines, problem):
    assert any(text.startswith(problem) for text in told(*lines)), told(*lines)


def test_an_overlap_of_two_real_backends_is_found(cluster):
    """Two keys that share a directory stand for one key that was given away too early."""
    first = cluster.run("planted", mount="shared")
    second = cluster.run("another", mount="shared")
    beats = cluster.beats("shared")
    cluster.wait(lambda: cluster.beats("shared") >= beats + 20, "both write")
    testimony = witness.take(cluster.keys, "shared")
    assert set(testimony.lives) == {first["backend_id"], second["backend_id"]}
    assert f"{second['backend_id']} began while another one was alive" in testimony.problems
    assert any(text.startswith(f"{first['backend_id']} (token") for text in testimony.problems)


def test_two_real_backends_in_a_row_are_fine(cluster):
    first = cluster.run("in-a-row")
    cluster.end_all()
    second = cluster.run("in-a-row")
    lives = cluster.lives("in-a-row")
    assert [life.backend for life in lives] == [first["backend_id"], second["backend_id"]]
    assert all(life.lines > 1 for life in lives)
