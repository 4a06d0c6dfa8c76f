"""Several corpora in one training: whose actors are whose, what a corpus lacks, who is tested."""

import csv
import dataclasses
import json
import types

import keras
import numpy as np
import pytest
from conftest import write_rows
from scipy import special
from small_training import SETTINGS, train

from infer.prediction import predict
from pipeline.backends import Workers
from pipeline.cache import format as shard_format
from pipeline.corpora import actors
from pipeline.corpora.sources import Source
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train import __main__, artefact, fit
from train.data import corpora, corpus_names, dataset, duplicates, reader, rows, statistics
from train.evaluation import calibration, metrics
from train.heads import HEADS
from train.loop import stage
from train.models import layers
from train.studies import protocol, runner, summary

ONE_EPOCH = dataclasses.replace(
    SETTINGS, audio_epochs=1, video_epochs=1, fusion_epochs=1, refit_epochs=1
)
ABSENT = EMOTIONS.index("surprised")


def other_recording(number, clip):
    """The same actor numbers and clip ids as in another corpus, but no recording of it."""
    changed = [shard_format.CachedRow(row.mfcc * np.float32(1.5), row.frames) for row in clip.rows]
    content = Source(clip.sources[0].path, number, f"{number + 10**6:064x}", 0)
    return dataclasses.replace(clip, rows=tuple(changed), sources=(content,))


@pytest.fixture(scope="module")
def other(small_spec, tmp_path_factory):
    """A larger corpus of actors with the same numbers; nobody is surprised."""
    clips = [
        (actor, emotion, "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "happy", "angry", "sad")
    ]
    folder = tmp_path_factory.mktemp("corpora") / "other"
    return write_rows(folder, small_spec, clips, change=other_recording)


@pytest.fixture(scope="module")
def own(small_spec, tmp_path_factory):
    """The rows of ``small_cache``, under a name that is always the same."""
    clips = [
        (actor, emotion, "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "surprised")
    ]
    return write_rows(tmp_path_factory.mktemp("corpora") / "own", small_spec, clips, size=3)


@pytest.fixture(scope="module")
def joined(own, other):
    return corpora.join([own, other])


@pytest.fixture(scope="module")
def trained(joined, tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    return folder, train(joined, folder, ONE_EPOCH, corpora.split(joined))


# Names


def test_actors_are_written_as_they_are_read():
    text = "own:1-3,9 other:1001"
    read = actors.parse_actors_of_corpora(text)
    assert read == ("own:1", "own:2", "own:3", "own:9", "other:1001")
    assert actors.format_actors(read) == text
    assert actors.parse_actors_of_corpora("1-3") == (1, 2, 3)
    for wrong in ("own:1-3 4", "own: 3", ":3", "own:x"):
        with pytest.raises(InputError, match="expected actors such as"):
            actors.parse_actors_of_corpora(wrong)


def test_a_corpus_is_recognised_else_named_by_its_folder_and_numbered(own, other, tmp_path):
    (tmp_path / "my faces").mkdir()
    known = dataclasses.replace(own, root=str(tmp_path / "my faces"), entries=own.entries[:1])
    source = dataclasses.replace(own.entries[0].sources[0], path="a/1001_DFA_ANG_XX.flv")
    entry = dataclasses.replace(own.entries[0], sources=(source,))
    crema = dataclasses.replace(own, entries=(entry,))
    found = corpus_names.names_of([own, other, known, crema, crema, own])
    assert found == ["own", "other", "my_faces", "crema_d", "crema_d_2", "own_2"]
    assert corpus_names.title_in_words(crema) == "CREMA-D"
    (tmp_path / "my faces" / "corpus.txt").write_text("drawn faces\n")
    drawn = dataclasses.replace(crema, root=known.root)
    assert corpus_names.title_in_words(drawn) == "drawn faces"
    split = protocol.Split((), (), (1,))
    said = [corpora.describe(cache, split, ())[0] for cache in (crema, drawn, own)]
    assert [bool(corpus["licence"]) for corpus in said] == [True, False, False]


# One cache of several


def test_one_cache_is_what_it_was(own):
    assert corpora.join([own]) is own
    assert corpora.split(own) == protocol.split_actors(own.actors)
    assert rows.select_rows(own, (1,)).corpora is None and corpora.lines(own) == []


def test_actors_of_the_same_number_are_kept_apart_and_rows_are_those_of_the_parts(
    own, other, joined
):
    assert len(joined.actors) == 8 and joined.rows == own.rows + other.rows
    both = rows.select_rows(joined, joined.actors, variants=True)
    parts = [rows.select_rows(part, part.actors, variants=True) for part in (own, other)]
    names = [f"own:{number}" for number in parts[0].actor]
    names += [f"other:{number}" for number in parts[1].actor]
    assert both.actor.tolist() == names
    assert both.label.tolist() == [*parts[0].label, *parts[1].label]
    # The reader compares each row with its checksum.
    given = reader.RowReader(both).read(np.arange(len(both)))
    for name in ("mfcc", "frames"):
        expected = [reader.RowReader(part).read(np.arange(len(part)))[name] for part in parts]
        assert np.array_equal(given[name], np.concatenate(expected))
    assert both.corpora.names == ("own", "other")
    assert both.corpora.number.tolist() == [0] * len(parts[0]) + [1] * len(parts[1])
    assert not both.corpora.mask[-1, ABSENT] and both.corpora.mask[0, ABSENT]
    one = rows.select_rows(joined, ("other:2",))
    assert {clip[-2:] for clip in one.clip} == {"02"} and set(one.corpora.number) == {1}
    assert corpora.lines(joined)[1] == (
        "other: 24 clips of actors 1-4, without calm, fearful, disgust, surprised"
    )
    with pytest.raises(InputError, match="other:9"):
        rows.select_rows(joined, ("own:1", "other:9"))


def test_what_cannot_be_joined_is_refused_in_one_line(own, other, small_spec, tmp_path):
    foreign = dataclasses.replace(small_spec, window_seconds=1.5)
    made = write_rows(tmp_path / "foreign", foreign, [(1, "sad", "av")])
    with pytest.raises(InputError, match=f"one spec, got {own.spec.digest} .* {foreign.digest}"):
        corpora.join([own, made])
    with pytest.raises(InputError, match="different corpora, got the same one"):
        corpora.join([own, other, own])
    copied = dataclasses.replace(own, folder=tmp_path)
    with pytest.raises(InputError, match="name each corpus once"):
        corpora.join([own, copied])
    with_root = [dataclasses.replace(cache, root=str(tmp_path)) for cache in (own, other)]
    with pytest.raises(InputError, match="name each corpus once"):
        corpora.join(with_root)


def test_each_corpus_is_divided_as_alone_unless_its_actors_are_named(joined):
    split = corpora.split(joined)
    assert split.test == ("own:4", "other:4") and split.validation == ("own:3", "other:3")
    split = corpora.split(joined, ("other:1", "other:2"))
    assert split.test == ("own:4", "other:1", "other:2")
    assert split.train == ("own:1", "own:2", "other:3")
    for wrong, said in (
        ((1,), "own, other, got 1"),
        (("third:1",), "third:1"),
        (("other:7",), "other: expected test actors out of 1-4, got 7"),
    ):
        with pytest.raises(InputError, match=said):
            corpora.split(joined, wrong)
    folds = corpora.folds(joined, "contiguous:2")
    assert [fold.test for fold in folds] == [
        ("own:1", "own:2", "other:1", "other:2"),
        ("own:3", "own:4", "other:3", "other:4"),
    ]
    with pytest.raises(InputError, match="contiguous:K with several corpora, got 'loso'"):
        corpora.folds(joined, "loso")


def test_a_recording_that_two_corpora_hold_is_found(own, small_spec, tmp_path):
    """Number 0 of both is the same clip; its second actor has another."""

    def partly(number, clip):
        return clip if number == 0 else other_recording(number, clip)

    clips = [(1, "neutral", "av"), (2, "happy", "av")]
    made = write_rows(tmp_path / "partly", small_spec, clips, change=partly)
    (group,) = duplicates.across_actors(corpora.join([own, made]))
    assert [entry.actor for entry in group] == ["own:1", "partly:1"]


def test_speakers_of_the_same_number_are_two_in_the_statistics(joined, own, other):
    both = statistics.mfcc_statistics(rows.select_rows(joined, joined.actors))
    parts = [rows.select_rows(part, part.actors) for part in (own, other)]
    means = [
        reader.RowReader(part).read(np.flatnonzero(part.actor == actor))["mfcc"].mean((0, 2, 3))
        for part in parts
        for actor in (1, 2, 3, 4)
    ]
    assert both.speaker_deviation == pytest.approx(np.std(means, axis=0), rel=1e-3, abs=1e-4)


# The loss


def oracle(logits, label, corpus, prior):
    """Cross-entropy over the emotions that each row's corpus has, with its prior."""
    with np.errstate(divide="ignore"):
        adjusted = logits + np.log(np.asarray(prior))[corpus][:, np.newaxis]
    taken = special.log_softmax(adjusted, axis=-1)[np.arange(len(label)), :, label]
    return -taken.mean(axis=1)


def test_the_loss_leaves_absent_emotions_out_and_gives_them_no_gradient():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (6, 3, 8)).astype(np.float32)
    corpus, label = np.array([0, 1, 1, 0, 1, 0]), np.array([7, 0, 4, 1, 3, 2])
    prior = random.dirichlet(np.ones(8), 2)
    prior[1, [1, 7]] = 0
    prior[1] /= prior[1].sum()
    layer, given = layers.LogitAdjustment(prior.tolist()), keras.ops.convert_to_tensor(logits)
    adjusted = layer(given, corpus, training=True)
    loss = np.asarray(stage.mean_crossentropy(label, adjusted))
    assert loss == pytest.approx(oracle(logits, label, corpus, prior), rel=1e-5)
    # In validation the prior is not added, but what is absent stays absent.
    even = np.where(prior > 0, 1.0, 0.0)
    loss = np.asarray(stage.mean_crossentropy(label, layer(given, corpus, training=False)))
    assert loss == pytest.approx(oracle(logits, label, corpus, even), rel=1e-5)
    import tensorflow as tf

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(stage.mean_crossentropy(label, layer(variable, corpus, training=True)))
    gradient = tape.gradient(loss, variable).numpy()
    assert np.isfinite(gradient).all()
    absent = prior[corpus] == 0
    assert not gradient[np.broadcast_to(absent[:, np.newaxis], gradient.shape)].any()
    assert np.all(gradient[:, :, 0] != 0)
    again = layers.LogitAdjustment.from_config(layer.get_config())
    assert np.array_equal(again(given, corpus, training=True), adjusted)


def test_each_corpus_has_a_prior_of_its_own(joined):
    prior = np.array(statistics.class_prior(rows.select_rows(joined, joined.actors)))
    assert prior.sum(axis=1) == pytest.approx(1)
    # Of the larger corpus 4 are neutral and sad, 8 happy and angry; of each one more is counted.
    expected = dict.fromkeys(EMOTIONS, 0) | {"neutral": 5, "sad": 5, "happy": 9, "angry": 9}
    assert prior[1] == pytest.approx(np.array(list(expected.values())) / 28)
    assert prior[0, ABSENT] == pytest.approx(5 / 20)


# Sampling


def test_every_epoch_has_an_equal_share_of_each_corpus_and_no_row_is_forgotten():
    corpus = np.array([0] * 5 + [1] * 30 + [2] * 12)
    order = [dataset.balanced_order(corpus, 3, epoch) for epoch in range(60)]
    assert {len(numbers) for numbers in order} == {47}
    shares = np.array([np.bincount(corpus[numbers], minlength=3) for numbers in order])
    assert shares.tolist() == [[16, 16, 15]] * 60
    times = np.bincount(np.concatenate(order), minlength=47)
    for number in range(3):
        assert np.ptp(times[corpus == number]) <= 1
    # Within an epoch, too: a row comes again only after all others of its corpus.
    first = np.bincount(order[0], minlength=47)
    assert np.ptp(first[corpus == 0]) <= 1 and first[corpus == 1].max() == 1
    assert not np.array_equal(order[0], order[1])
    assert np.array_equal(order[7], dataset.balanced_order(corpus, 3, 7))
    assert not np.array_equal(order[7], dataset.balanced_order(corpus, 4, 7))
    one = dataset.balanced_order(np.ones(9, int), 0, 4)
    assert sorted(one.tolist()) == list(range(9))


def test_batches_know_their_corpus_and_go_on_at_any_epoch(joined):
    table = rows.select_rows(joined, joined.actors)
    inputs = ("mfcc", "corpus")
    whole = dataset.shuffled(table, 40, 3, inputs).take(2).as_numpy_iterator()
    second = next(dataset.shuffled(table, 40, 3, inputs, 1).as_numpy_iterator())
    given = list(whole)
    assert [np.bincount(batch["corpus"]).tolist() for batch, _ in given] == [[20, 20]] * 2
    for batch, label in given:
        assert np.array_equal(batch["mfcc"].mean(axis=(2, 3)).argmax(axis=1), label)
        assert not np.any((label == ABSENT) & (batch["corpus"] == 1))
    assert np.array_equal(given[1][0]["mfcc"], second[0]["mfcc"])
    assert np.array_equal(given[1][0]["corpus"], second[0]["corpus"])
    assert set(next(iter(dataset.in_order(table, 4)))[0]) == {"mfcc", "frames"}


# Metrics


def test_an_answer_is_one_of_the_emotions_that_the_corpus_has(joined):
    table = rows.select_rows(joined, ("own:1", "other:1"))
    random = np.random.default_rng(0)
    said = {head: random.dirichlet(np.ones(8), len(table)).astype(np.float32) for head in HEADS}
    said["fused"][-1] = np.eye(8)[ABSENT]  # Sure of what cannot be.
    said["audio_distance"] = np.ones((len(table), 1), np.float32)
    given = metrics.within_corpus(table, said)
    assert given["audio_distance"] is said["audio_distance"]
    for head in HEADS:
        assert given[head].sum(axis=1) == pytest.approx(1)
        assert not given[head][~table.corpora.mask].any()
        first = said[head][0] * table.corpora.mask[0]
        assert given[head][0] == pytest.approx(first / first.sum(), rel=1e-5)
    assert given["fused"][-1] == pytest.approx(table.corpora.mask[-1] / 4)
    alone = rows.select_rows(joined.parts["own"], (1,))
    assert metrics.within_corpus(alone, said) == said


def test_uar_leaves_out_what_a_corpus_lacks(joined):
    """All answers are right but that surprise always has the highest probability."""
    table = rows.select_rows(joined, joined.actors)
    sure = np.eye(8, dtype=np.float32)[table.label] * 0.4
    sure[:, ABSENT] += 0.6
    given = metrics.within_corpus(table, dict.fromkeys(HEADS, sure))
    found = metrics.by_corpus(table, given)
    assert found["other"]["fused"] == {"war": 1, "uar": 1}
    assert found["own"]["fused"] == {"war": 0.25, "uar": 0.25}
    assert (found["own"]["clips"], found["other"]["clips"]) == (16, 24)
    assert (found["own"]["emotions"], found["other"]["emotions"]) == (4, 4)
    judged = metrics.metrics(table, given) | {"corpora": found}
    lines = metrics.table(judged).splitlines()
    assert "actors other:1-4 own:1-4, 40 clips" in lines[0]
    assert "other: UAR fused 100.0, audio 100.0, video 100.0; 24 clips, 4 emotions" in lines
    logits = np.log(np.maximum(sure, 1e-6))
    masked = fit.possible(table, logits)
    assert (masked[~table.corpora.mask] == layers.LACKING).all()
    assert np.isfinite(calibration.fit_temperature(masked, table.label))


# A whole training


def test_a_training_on_several_corpora_says_what_it_has_learned_from(trained, joined, own, other):
    folder, judged = trained
    assert set(judged["corpora"]) == {"own", "other"}
    assert judged["corpora"]["other"]["clips"] == 6 and judged["clips"] == 10
    assert set(judged["fused"]["actors"]) == {"own:4", "other:4"}
    description = json.loads((folder / "model.json").read_text())
    assert description["actors"]["train"] == ["own:1", "own:2", "other:1", "other:2"]
    assert description["corpus"].count(" and ") == 1
    for said, cache in zip(description["corpora"], (own, other), strict=True):
        assert said["spec"] == cache.spec.digest and said["cache"] == cache.fingerprint
        assert said["actors"] == {"train": [1, 2], "validation": [3], "test": [4]}
    assert [corpus["clips"] for corpus in description["corpora"]] == [12, 18]
    assert "surprised" not in description["corpora"][1]["emotions"]
    with (folder / "report" / "predictions.csv").open() as stream:
        lines = [line for line in csv.DictReader(stream) if line["actor"] == "other:4"]
    assert len(lines) == 6
    for line in lines:
        assert float(line["p_fused_surprised"]) == 0
        assert line["fused"] in ("neutral", "happy", "sad", "angry")
    loaded = artefact.load(folder)
    assert loaded.split == corpora.split(joined) and len(loaded.corpora) == 2
    # The saved model itself knows nothing of corpora.
    assert set(loaded.model.input) == {"mfcc", "frames"}
    table = rows.select_rows(joined, loaded.split.test)
    again = metrics.within_corpus(table, metrics.predict(loaded.model, table))
    assert metrics.by_corpus(table, again) == judged["corpora"]


@pytest.mark.slow
def test_an_interrupted_training_on_several_corpora_ends_as_an_uninterrupted_one(
    trained, joined, tmp_path, monkeypatch
):
    class Interrupt(keras.callbacks.Callback):
        """Ends the training amid the second stage's only epoch."""

        def __init__(self, name, *_):
            super().__init__()
            self.name = name

        def on_train_batch_end(self, batch, logs=None):
            if self.name == "video" and batch == 1:
                raise KeyboardInterrupt

    split = corpora.split(joined)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "Progress", Interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(joined, tmp_path, ONE_EPOCH, split, progress=True)
    judged = train(joined, tmp_path, ONE_EPOCH, split, go_on=True)
    assert judged == trained[1]
    weights = [artefact.load(place).model.get_weights() for place in (trained[0], tmp_path)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*weights, strict=True))


def run(*words):
    arguments = __main__.parser().parse_args([*map(str, words)])
    return arguments.run(arguments)


def test_evaluate_prints_a_table_of_models_and_corpora(
    trained, own, other, tmp_path, capsys, monkeypatch
):
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.mkdir()
    for name in ("model.keras", "model.json"):
        (both / name).write_bytes((trained[0] / name).read_bytes())
    train(other, alone, ONE_EPOCH)
    caches = ("--cache", own.folder, other.folder)
    assert run("evaluate", *caches, "--models", both, alone) == 0
    said = capsys.readouterr().out.splitlines()
    place = next(place for place, line in enumerate(said) if line.startswith("UAR %"))
    assert said[place].split() == ["UAR", "%,", "fused", "own", "other"]
    found = json.loads((both / "cross_corpus.json").read_text())
    assert [line["trained_on"] for line in found] == ["own+other", "other"]
    for shown, line in zip(said[place + 1 : place + 3], found, strict=True):
        cells = [f"{100 * line['tested_on'][name]['fused']:.1f}" for name in ("own", "other")]
        assert shown.split() == [line["trained_on"], *cells]
    # The same clips and answers as in the training's own report.
    for name in ("own", "other"):
        assert found[0]["tested_on"][name]["fused"] == trained[1]["corpora"][name]["fused"]["uar"]
    # Of a model that never saw surprise such clips are not asked, and all actors are new to it.
    cell = found[1]["tested_on"]["own"]
    assert cell["clips"] == 12 and cell["actors"] == [1, 2, 3, 4]
    assert cell["emotions"] == ["neutral", "happy", "angry"]
    report = alone / "report-own-actors-1-4" / "predictions.csv"
    with report.open() as stream:
        assert {line["fused"] for line in csv.DictReader(stream)} <= {"neutral", "happy", "angry"}
    # Actors that were learned from are no test, and say so.
    assert run("evaluate", *caches, "--model", both, "--actors", "own:1-4") == 0
    said = capsys.readouterr().out
    cell = json.loads((both / "cross_corpus.json").read_text())[0]["tested_on"]["own"]
    assert cell["seen_in_training"] == [1, 2, 3]
    assert f"{100 * cell['fused']:.1f}*" in said and "* not a test" in said
    with pytest.raises(InputError, match="expected actors of own, other, got third:1"):
        run("evaluate", *caches, "--model", both, "--actors", "third:1")
    with pytest.raises(InputError, match="name each corpus once"):
        run("evaluate", "--cache", own.folder, own.folder, "--model", both)


def test_folds_of_several_corpora_are_summarised(joined, tmp_path, monkeypatch):
    def pretend(task):
        test = rows.select_rows(task.index, task.split.test)
        answers = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[test.label])
        judged = metrics.metrics(test, answers) | {"stamp": None, "validation": {}}
        metrics_and_report(task.folder, test, answers, judged)
        runner.write_result(task, judged | {"minutes": 1.0})

    def metrics_and_report(folder, test, answers, judged):
        from train.evaluation import report

        report.write_report(folder / "report", test, answers, judged)
        for name in runner.MODEL_NAMES:
            (folder / name).touch()

    monkeypatch.setattr(runner, "train_task", pretend)
    splits = corpora.folds(joined, "contiguous:2")
    tasks = runner.fold_tasks(joined, tmp_path, splits, SETTINGS)
    runner.run(tasks, Workers(1), progress=False)
    found = summary.summarize([task.folder for task in tasks])
    assert len(found["actors"]) == 8 and found["fused"]["uar"]["pooled"] == 1
    summary.write_report(tmp_path / "report", found)


def test_inference_says_all_that_a_model_has_learned_from():
    model = types.SimpleNamespace(branches={"audio", "video"}, corpus="RAVDESS and drawn faces")
    model.description = {"corpora": [{"title": "RAVDESS"}, {"title": "drawn faces"}]}
    assert list(predict.model_notes(model)) == ["the model was trained on RAVDESS and drawn faces"]
    model.description = {}
    assert len(list(predict.model_notes(model))) == 2
