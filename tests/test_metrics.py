"""Metrics and report files, against counts by hand and scikit-learn."""

import csv
import json
import warnings

import numpy as np
import pytest
from conftest import write_rows
from sklearn.metrics import balanced_accuracy_score

from pipeline.spec import EMOTIONS
from train.data import rows
from train.evaluation import figures, metrics, report
from train.heads import HEADS, LEFT_OUT, UNTAUGHT


def one_hot(answer):
    return np.eye(8, dtype=np.float32)[answer]


def random_probabilities(count, seed=0):
    values = np.random.default_rng(seed).dirichlet(np.ones(8), count)
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def table(small_cache):
    return rows.select_rows(small_cache, (3, 4))


def test_averages_against_counts_by_hand():
    label, answer = np.array([0, 0, 0, 4]), np.array([0, 0, 4, 4])
    assert metrics.averages(label, answer) == {"war": 3 / 4, "uar": pytest.approx((2 / 3 + 1) / 2)}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_averages_are_those_of_scikit_learn_without_its_warning():
    random = np.random.default_rng(0)
    label, answer = random.integers(0, 5, 40), random.integers(0, 8, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.averages(label, answer)
        assert metrics.averages(label[:1], label[:1]) == {"war": 1, "uar": 1}
    assert found["uar"] == pytest.approx(balanced_accuracy_score(label, answer))
    assert found["war"] == np.mean(label == answer)


def test_metrics_of_a_head_by_hand():
    label, answer = np.array([2, 2, 4, 4]), np.array([2, 4, 4, 4])
    found = metrics.head_metrics(label, np.array([1, 1, 1, 2]), one_hot(answer))
    assert found["war"] == found["uar"] == 0.75
    assert found["recall"]["happy"] == 0.5 and found["recall"]["angry"] == 1
    assert found["recall"]["calm"] is None
    assert found["actors"]["1"] == {"war": pytest.approx(2 / 3), "uar": 0.75, "clips": 3}
    assert found["actors"]["2"] == {"war": 1, "uar": 1, "clips": 1}
    assert found["confusion"][2][4] == 1 and np.sum(found["confusion"]) == 4
    # Every answer is sure, one of four is wrong.
    assert found["calibration"]["expected_calibration_error"] == pytest.approx(0.25)


def test_a_head_is_tested_where_the_clips_have_its_modality(small_spec, tmp_path):
    clips = [(actor, name, "av" if actor == 1 else "a") for actor in (1, 2) for name in EMOTIONS]
    found = rows.select_rows(write_rows(tmp_path, small_spec, clips), (1, 2))
    right, wrong = one_hot(found.label), one_hot((found.label + 1) % 8)
    judged = metrics.metrics(found, {"fused": right, "audio": right, "video": wrong})
    assert [judged[head]["war"] for head in HEADS] == [1, 1, 0]
    assert list(judged["video"]["actors"]) == ["1"] and np.sum(judged["video"]["confusion"]) == 8
    assert judged["clips"] == 16 and judged["actors"] == [1, 2] and judged["left_out"] == []
    blind = found.where(found.actor == 2)
    assert metrics.left_out(blind, HEADS) == [LEFT_OUT["video"]]
    assert metrics.left_out(found, ("fused", "audio")) == [UNTAUGHT["video"]]
    averages = metrics.head_averages(blind, {"fused": right[8:], "audio": right[8:]})
    assert averages == {head: {"war": 1, "uar": 1} for head in ("fused", "audio")}


def test_the_table_shows_percent_and_what_is_left_out(table):
    judged = metrics.metrics(table, dict.fromkeys(HEADS, one_hot(table.label)), ("fused", "audio"))
    lines = metrics.table(judged | {"stamp": "not comparable"}).splitlines()
    assert lines[1].split() == ["fused", "100.0", "100.0", "0.000"]
    assert [line.split()[0] for line in lines[1:3]] == ["fused", "audio"]
    assert lines[3:] == [UNTAUGHT["video"], "not comparable"]


def test_predictions_hold_the_very_probabilities(table, tmp_path):
    probabilities = {
        head: random_probabilities(len(table), number) for number, head in enumerate(HEADS)
    }
    probabilities["fused"][0] = [1e-30, 1, 0, 1 / 3, np.float32(0.1), 5e-10, 0, 1e-45]
    judged = metrics.metrics(table, probabilities, ("fused", "audio"))
    report.write_report(tmp_path / "report", table, probabilities, judged)
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"metrics.json", "predictions.csv", "confusion.png"}
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == judged
    with (tmp_path / "report" / "predictions.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert list(lines[0])[:7] == ["clip", "actor", "face_found", "emotion", *HEADS]
    assert [line["clip"] for line in lines] == table.clip.tolist()
    assert [EMOTIONS.index(line["emotion"]) for line in lines] == table.label.tolist()
    for head in HEADS:
        read = np.array([[line[f"p_{head}_{name}"] for name in EMOTIONS] for line in lines])
        assert np.array_equal(read.astype(np.float32), probabilities[head])
        answers = [EMOTIONS[place] for place in probabilities[head].argmax(axis=1)]
        assert [line[head] for line in lines] == (answers if head != "video" else [""] * len(lines))


def test_curves_show_every_epoch_of_every_stage(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        figures, "save", lambda figure, path: drawn.append((figure, path.suffix, path.parent))
    )
    log = tmp_path / "log.csv"
    log.write_text(
        "stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate\n"
        "audio,0,2,0.1,2.1,0.2,0.001\naudio,1,1,0.3,2.0,0.4,0.001\n"
        "video,0,2,0.1,2.2,0.1,0.001\nvideo refit,0,1,0.5,,,0.001\n"
    )
    report.write_learning_curves(tmp_path, log)
    assert (tmp_path / "learning_curves.csv").read_bytes() == log.read_bytes()
    [(figure, suffix, folder)] = drawn
    assert suffix == ".png" and folder == tmp_path
    loss, accuracy = figure.axes
    assert [line.get_xdata().tolist() for line in loss.lines[::2]] == [[1, 2], [3], [4]]
    assert accuracy.lines[1].get_ydata().tolist() == [0.2, 0.4]
    assert np.isnan(accuracy.lines[5].get_ydata()).all()
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["audio", "video", "video refit"]


def test_the_confusion_matrix_is_drawn_in_percent(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    confusion = np.zeros((8, 8), int)
    confusion[0, :2] = 3, 1
    judged = {"fused": {"confusion": confusion, "war": 0.75, "uar": 0.75}, "stamp": "leaks"}
    figures.draw_confusion(tmp_path / "a.png", judged | {"left_out": [], "clips": 4, "actors": [1]})
    axes = drawn[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["75", "25", "0"] and len(texts) == 64
    assert "leaks" in axes.get_title() and "WAR 75.0 %" in axes.get_title()
