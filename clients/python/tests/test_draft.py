"""Paths of state trees and the copy that an edit changes."""

import json
from pathlib import Path

import pytest

from pagewire.draft import Draft
from pagewire.paths import join, split

PATHS = json.loads((Path(__file__).parents[3] / "tests/golden/paths.json").read_text("utf-8"))


@pytest.mark.parametrize("row", PATHS["paths"], ids=lambda row: repr(row["text"]))
def test_a_golden_path_is_read_and_written(row):
    assert split(row["text"]) == row["keys"]
    assert join(row["keys"]) == row.get("written", row["text"])


@pytest.mark.parametrize("path", PATHS["positions"])
def test_a_position_is_no_path_of_an_edit(path):
    with pytest.raises(ValueError):
        split(path)


@pytest.mark.parametrize("path", [".", "a.", ".a", "a..b", "\\"])
def test_what_has_an_empty_key_is_no_path(path):
    with pytest.raises(ValueError):
        split(path)


def draft():
    return Draft({"a": {"b": 1}, "list": [1], "leaf": 5}, 3)


def test_a_draft_reads_what_it_has_written():
    tree = draft()
    tree["a.c.d"] = [1]
    tree["leaf.below"] = 2
    del tree["list"]
    assert tree["a"] == {"b": 1, "c": {"d": [1]}}
    assert tree["leaf"] == {"below": 2}
    assert "list" not in tree
    assert tree.get("list", 7) == 7
    assert tree.changes() == [
        {"path": "a.c.d", "value": [1]},
        {"path": "leaf.below", "value": 2},
        {"path": "list", "delete": True},
    ]


def test_what_is_changed_in_place_is_written():
    tree = draft()
    tree["list"].append(2)
    tree["a"]["b"] = 2
    tree["leaf"]
    assert tree.changes() == [{"path": "list", "value": [1, 2]}, {"path": "a", "value": {"b": 2}}]


def test_a_change_in_place_keeps_its_order_with_others():
    tree = draft()
    tree["list"].append(2)
    tree["list"] = []
    assert tree.changes() == [{"path": "list", "value": [1, 2]}, {"path": "list", "value": []}]


def test_a_draft_that_was_only_read_has_no_changes():
    tree = draft()
    assert tree["a"] == {"b": 1}
    assert tree[""] == {"a": {"b": 1}, "list": [1], "leaf": 5}
    assert tree.changes() == []


def test_a_missing_path_raises():
    tree = draft()
    with pytest.raises(KeyError):
        tree["none"]
    with pytest.raises(KeyError):
        del tree["none.below"]


def test_a_whole_tree_is_replaced_by_an_object_only():
    tree = draft()
    tree[""] = {"x": 1}
    assert tree["x"] == 1
    with pytest.raises(ValueError):
        tree[""] = 5
    del tree[""]
    assert tree[""] == {}


def test_a_value_is_copied_when_it_is_written():
    tree, value = draft(), [1]
    tree["list"] = value
    value.append(2)
    assert tree["list"] == [1]
