"""Checkpoints: the newest wins, older ones go, and nothing half-written is read."""

import pytest
import torch

from pflbench import checkpoint, results
from pflbench.errors import TrialFailed

KEPT = {
    "round": 3,
    "model": {"w": torch.tensor([1.0, 2.0]), "mask": torch.tensor([True, False])},
    "note": "ü",
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_comes_back(tmp_path):
    checkpoint.save(tmp_path / "checkpoint", 3, KEPT)
    kept = checkpoint.load(tmp_path / "checkpoint")
    assert (kept["round"], kept["note"]) == (3, "ü")
    assert kept["model"]["w"].tolist() == [1, 2]
    assert kept["model"]["mask"].tolist() == [True, False]


def test_what_comes_back_can_be_trained_on(tmp_path):
    checkpoint.save(tmp_path, 3, KEPT)
    checkpoint.load(tmp_path)["model"]["w"].add_(1)
    assert checkpoint.load(tmp_path)["model"]["w"].tolist() == [1, 2]


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "absent") is None


def test_saving_removes_older_ones(tmp_path):
    for round in (1, 2, 3):
        checkpoint.save(tmp_path, round, {"round": round})
    assert names(tmp_path) == ["round-00003.pfl"]


def test_the_newest_wins_where_a_kill_left_two(tmp_path):
    checkpoint.save(tmp_path, 99999, {"round": 99999})
    older = (tmp_path / "round-99999.pfl").read_bytes()
    checkpoint.save(tmp_path, 100000, {"round": 100000})
    (tmp_path / "round-99999.pfl").write_bytes(older)
    assert checkpoint.load(tmp_path)["round"] == 100000


def test_the_older_one_stays_until_the_new_one_lies_there(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"round": 1})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(results.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, {"round": 2})
    assert checkpoint.load(tmp_path)["round"] == 1


def test_what_cannot_be_kept_leaves_the_older_one(tmp_path):
    checkpoint.save(tmp_path, 1, {"round": 1})
    with pytest.raises(TrialFailed, match="is a list"):
        checkpoint.save(tmp_path, 2, {"state": [1]})
    assert checkpoint.load(tmp_path)["round"] == 1


def test_other_files_are_left_alone(tmp_path):
    for name in ("notes.txt", "round-2.pfl.new", ".round-00009.pfl.new", "round-x.pfl"):
        (tmp_path / name).write_text("not a checkpoint")
    checkpoint.save(tmp_path, 1, {"round": 1})
    assert checkpoint.load(tmp_path)["round"] == 1
    assert len(names(tmp_path)) == 5


@pytest.mark.parametrize("content", [b"", b"something else", b"pflbench checkpoint 9\n\0\0" + b"{}"])
def test_a_foreign_file_is_named_and_not_read(tmp_path, content):
    (tmp_path / "round-00007.pfl").write_bytes(content)
    with pytest.raises(TrialFailed, match=r"round-00007\.pfl is not a checkpoint of this version; remove it"):
        checkpoint.load(tmp_path)


def test_tensors_of_a_checkpoint_lie_aligned(tmp_path):
    checkpoint.save(tmp_path, 1, {"flag": torch.tensor([True]), "w": torch.ones(3).double()})
    assert checkpoint.load(tmp_path)["w"].data_ptr() % 8 == 0


def test_equal_states_give_equal_bytes(tmp_path):
    checkpoint.save(tmp_path / "a", 1, KEPT)
    checkpoint.save(tmp_path / "b", 1, KEPT)
    assert (tmp_path / "a/round-00001.pfl").read_bytes() == (tmp_path / "b/round-00001.pfl").read_bytes()
