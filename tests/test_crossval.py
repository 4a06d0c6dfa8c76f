import json

import numpy as np
import pytest

from pipeline import index
from pipeline.errors import InputError
from train import crossval, dataset, evaluate, protocol, table


def test_protocols_test_every_ravdess_actor_once():
    everyone = range(1, 25)
    for name in ("luna5", "sixfold", "emobox", "contiguous:3", "contiguous:7", "loso"):
        splits = protocol.folds(name, everyone)
        tested = [actor for split in splits for actor in split.test]
        assert sorted(tested) == list(everyone)
        for split in splits:
            sides = [*split.train, *split.validation, *split.test]
            assert sorted(sides) == list(everyone)


def test_protocols_as_published():
    (only,) = protocol.folds("chumachenko", range(1, 25))
    assert (only.test, only.validation) == ((5, 10, 16, 19), (11, 13, 18, 22))
    luna = protocol.folds("luna5", range(1, 25))
    assert [split.validation for split in luna] == [(3, 6), (10, 11), (8, 17), (1, 14), (2, 5)]
    assert luna[0].test == (2, 5, 14, 15, 16)


def test_contiguous_cuts_the_present_actors_in_order():
    splits = protocol.folds("contiguous:3", [1, 2, 3, 7, 8, 9, 20, 21, 22])
    assert [split.test for split in splits] == [(1, 2, 3), (7, 8, 9), (20, 21, 22)]


def test_missing_actors_are_named_or_left_out():
    with pytest.raises(InputError, match="without 19-24"):
        protocol.folds("sixfold", range(1, 19))
    splits = protocol.folds("sixfold", range(1, 19), present_only=True)
    assert [split.test for split in splits][-1] == (17, 18) and len(splits) == 5
    for wrong in ("fivefold", "contiguous:1", "contiguous:x", "contiguous:99"):
        with pytest.raises(InputError, match="expected"):
            protocol.folds(wrong, range(1, 19))


def answers(labels, given, actors, probabilities=None):
    labels, given = np.array(labels), np.array(given)
    if probabilities is None:
        probabilities = np.eye(8, dtype=np.float32)[given]
    clips = np.array([f"clip-{number}" for number in range(len(labels))])
    return crossval.Answers(
        clips,
        np.array(actors),
        labels,
        dict.fromkeys(("fused", "audio", "video"), given),
        probabilities,
    )


def test_averages_against_counts_by_hand():
    found = crossval.actor_confusions(answers([0, 0, 0, 4], [0, 0, 4, 4], [1, 1, 1, 1]), "fused")
    war, uar = crossval.averages(found)
    assert war == pytest.approx([3 / 4]) and uar == pytest.approx([(2 / 3 + 1) / 2])


def test_bootstrap_draws_actors_not_clips():
    """Two actors, one always right, one always wrong: any draw of two is 0, a half or 1."""
    both = answers([0] * 100, [0] * 50 + [1] * 50, [1] * 50 + [2] * 50)
    interval = crossval.bootstrap(crossval.actor_confusions(both, "fused"))
    assert interval["war"] == [0.0, 1.0]
    alike = answers([0, 1] * 50, [0, 2] * 50, [1] * 50 + [2] * 50)
    assert crossval.bootstrap(crossval.actor_confusions(alike, "fused"))["war"] == [0.5, 0.5]


def test_calibration_against_its_definition():
    sure = np.full((4, 8), 0.0, np.float32)
    sure[:, 0] = 0.95
    found = crossval.calibration(answers([0, 0, 0, 1], [0] * 4, [1] * 4, sure))
    assert found["expected_calibration_error"] == pytest.approx(0.95 - 0.75, abs=1e-6)
    assert found["bins"][0]["clips"] == 4


def test_most_wrong_is_sorted_and_never_right():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], np.float32)
    probabilities = np.pad(probabilities, ((0, 0), (0, 6)))
    worst = crossval.most_wrong(answers([0, 0, 0], [0, 1, 1], [1, 1, 1], probabilities))
    assert [entry["clip"] for entry in worst] == ["clip-2", "clip-1"]
    assert worst[0]["answer"] == "calm"


@pytest.fixture
def folded(cache, tmp_path):
    """Two folds whose predictions are made up: actor n is right on its first n - 1 clips."""
    found = index.find_cache(cache)
    splits = protocol.folds("contiguous:2", found.actors)
    folders = []
    for number, split in enumerate(splits):
        rows = table.select_rows(found, split.test)
        place = np.concatenate([np.arange(4)] * len(split.test))
        given = np.where(place < rows.actor - 1, rows.label, (rows.label + 1) % 8)
        probabilities = dict.fromkeys(dataset.HEADS, np.eye(8, dtype=np.float32)[given])
        folders.append(tmp_path / f"fold-{number + 1}")
        evaluate.write_report(
            folders[-1] / "report", rows, probabilities, evaluate.metrics(rows, probabilities)
        )
    return folders, splits


def test_folds_are_judged_together(folded, tmp_path):
    judged = json.loads(json.dumps(crossval.judge(*folded, stamp=None)))
    fused = judged["fused"]
    assert judged["actors"] == [1, 2, 3, 4] and judged["clips"] == 16
    assert [fused["actors"][str(actor)]["war"] for actor in (1, 2, 3, 4)] == [0, 0.25, 0.5, 0.75]
    assert fused["war"]["folds"] == [0.125, 0.625]
    assert fused["war"]["mean"] == fused["war"]["pooled"] == 0.375
    assert fused["war"]["sd"] == pytest.approx(np.std([0.125, 0.625], ddof=1))
    low, high = fused["war"]["interval"]
    assert 0 <= low < 0.375 < high <= 0.75
    crossval.write_report(tmp_path / "report", judged)
    assert json.loads((tmp_path / "report" / "crossval.json").read_text()) == judged
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".json", ".png"}
    assert "37.5 ± 35.4" in crossval.table(judged)


@pytest.mark.slow
def test_a_finished_fold_is_not_trained_again(cache, tmp_path, monkeypatch):
    from train import fit

    found = index.find_cache(cache)
    splits = protocol.folds("contiguous:2", found.actors)
    settings = {"epochs": 1, "seed": 0, "batch_size": 8}
    folders = crossval.run(found, tmp_path, splits, settings, progress=False)
    first = crossval.judge(folders, splits, None)
    trained = []
    monkeypatch.setattr(fit, "fit", lambda *_, **__: trained.append(1))
    assert (
        crossval.judge(
            crossval.run(found, tmp_path, splits, settings, progress=False), splits, None
        )
        == first
    )
    assert not trained
    monkeypatch.undo()
    crossval.run(found, tmp_path, splits[:1], settings | {"seed": 1}, progress=False)
    description = json.loads((tmp_path / "fold-1" / "model.json").read_text())
    assert description["settings"]["seed"] == 1
