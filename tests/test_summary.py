"""Folds summarized together, against counts by hand. The predictions are made up."""

import json

import numpy as np
import pytest
from conftest import write_rows
from sklearn.metrics import confusion_matrix

from train.data import rows
from train.evaluation import metrics, report
from train.heads import HEADS, LEFT_OUT
from train.studies import protocol, summary


def write_fold(folder, table, probabilities, **more):
    judged = metrics.metrics(table, probabilities) | more
    report.write_report(folder / "report", table, probabilities, judged)
    return folder


@pytest.fixture(scope="module")
def folds(small_cache, tmp_path_factory):
    """Two folds: actor n is right on its first n - 1 of four clips, with probability 0.6."""
    place = tmp_path_factory.mktemp("folds")
    folders = []
    for split in protocol.folds("contiguous:2", small_cache.actors):
        table = rows.select_rows(small_cache, split.test)
        number = np.tile(np.arange(4), len(split.test))
        given = np.where(number < table.actor - 1, table.label, (table.label + 1) % 8)
        probabilities = (0.6 * np.eye(8)[given] + 0.05).astype(np.float32)
        folder = place / f"fold-{len(folders) + 1}"
        folders.append(write_fold(folder, table, dict.fromkeys(HEADS, probabilities)))
    return folders


def test_folds_are_summarized_together(folds, tmp_path):
    found = summary.summarize(folds)
    fused = found["fused"]
    assert found["actors"] == [1, 2, 3, 4] and found["clips"] == 16 and found["stamp"] is None
    assert [fused["actors"][str(actor)]["war"] for actor in (1, 2, 3, 4)] == [0, 0.25, 0.5, 0.75]
    assert fused["war"]["folds"] == [0.125, 0.625]
    assert fused["war"]["mean"] == fused["war"]["pooled"] == 0.375
    assert fused["war"]["sd"] == pytest.approx(np.std([0.125, 0.625], ddof=1))
    low, high = fused["war"]["interval"]
    assert 0 <= low < 0.375 < high <= 0.75
    error = fused["calibration"]["expected_calibration_error"]
    assert error == pytest.approx(0.65 - 0.375, abs=1e-6)
    assert "37.5 ± 35.4" in summary.table(found)
    assert "8.0 minutes a fold" in summary.table(found | {"minutes": [7, None, 9]})
    summary.write_report(tmp_path, found)
    assert json.loads((tmp_path / "crossval.json").read_text()) == found
    assert {path.name for path in tmp_path.iterdir()} == {
        "crossval.json",
        "confusion.png",
        "summary.png",
    }


def test_a_single_fold_has_no_deviation(folds):
    found = summary.summarize(folds[:1])
    assert found["fused"]["uar"]["sd"] is None
    assert summary.table(found).splitlines()[1].split()[:3] == ["fused", "12.5", "12.5"]


def test_answers_are_those_of_full_precision(small_cache, tmp_path):
    """Two probabilities that four decimals cannot tell apart."""
    table = rows.select_rows(small_cache, (1,))
    probabilities = np.full((len(table), 8), 0.125, np.float32)
    probabilities[np.arange(len(table)), table.label] += 1e-6
    folder = write_fold(tmp_path, table, dict.fromkeys(HEADS, probabilities))
    assert summary.summarize([folder])["fused"]["war"]["pooled"] == 1
    read = summary.read_predictions([folder])
    assert np.array_equal(read.probabilities["audio"], probabilities)


def test_a_head_counts_where_it_is_tested_and_is_left_out_where_it_never_is(small_spec, tmp_path):
    clips = [
        (actor, emotion, "a" if actor < 3 else "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("happy", "sad")
    ]
    index = write_rows(tmp_path / "cache", small_spec, clips)
    folders = []
    for split in protocol.folds("contiguous:2", index.actors):
        table = rows.select_rows(index, split.test)
        right, wrong = np.eye(8, dtype=np.float32)[[table.label, (table.label + 1) % 8]]
        folder = tmp_path / f"fold-{len(folders)}"
        folders.append(write_fold(folder, table, {"fused": right, "audio": right, "video": wrong}))
    found = summary.summarize(folders)
    assert found["fused"]["uar"]["folds"] == found["audio"]["uar"]["folds"] == [1, 1]
    assert found["video"]["uar"]["folds"] == [0] and set(found["video"]["actors"]) == {"3", "4"}
    assert found["left_out"] == [f"fold 1: {LEFT_OUT['video']}"]
    assert found["left_out"][0] in summary.table(found)
    alone = summary.summarize(folders[:1])
    assert "video" not in alone and alone["left_out"] == [LEFT_OUT["video"]]
    said = summary.table(alone)
    assert LEFT_OUT["video"] in said and "\nvideo  " not in said
    summary.write_report(tmp_path / "report", alone)


def test_stamps_of_folds_and_protocol_are_said_once(small_cache, tmp_path):
    table = rows.select_rows(small_cache, (1,))
    probabilities = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[table.label])
    folders = [
        write_fold(tmp_path / str(number), table, probabilities, stamp="transductive; leaks")
        for number in (1, 2)
    ]
    found = summary.summarize(folders, "leaks")
    assert found["stamp"] == "leaks; transductive"
    assert summary.table(found).splitlines()[-1] == found["stamp"]


def confusions(actor, label, answer):
    return np.array(
        [
            confusion_matrix(label[actor == one], answer[actor == one], labels=range(8))
            for one in np.unique(actor)
        ]
    )


def test_bootstrap_draws_actors_not_clips():
    """Two actors, one always right, one always wrong: any draw of two is 0, a half or 1."""
    actor = np.repeat([1, 2], 50)
    apart = confusions(actor, np.zeros(100, int), actor - 1)
    assert summary.bootstrap(apart)["war"] == [0.0, 1.0]
    alike = confusions(actor, np.tile([0, 1], 50), np.tile([0, 2], 50))
    assert summary.bootstrap(alike) == {"war": [0.5, 0.5], "uar": [0.5, 0.5]}
