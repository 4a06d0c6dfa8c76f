"""A training in one line: branches, fusion, refit, test, save."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.cache.index import Index
from pipeline.corpora.actors import Actor
from pipeline.errors import InputError
from train import artefact, export, runtime, sources
from train.data import corpora, duplicates, speaker, statistics
from train.data.rows import Rows, select_rows, source_hashes
from train.evaluation import calibration, distance, metrics, report, robustness
from train.heads import INPUTS
from train.loop import checkpoint, stage
from train.models import fusion, layers
from train.settings import Settings
from train.studies.protocol import Split

TRAINING_FOLDER = "training"


def fit(
    index: Index,
    folder: Path,
    split: Split,
    settings: Settings,
    go_on: bool | None = False,
    progress: bool = True,
    strategy: tf.distribute.Strategy | None = None,
) -> dict:
    """Train on a cache and leave a tested model in a folder.

    Each branch is trained by itself, then the fusion of their embeddings. Validation actors choose
    the epoch of each stage and its temperature; then branches and fusion are fine-tuned on them
    too, because every actor counts where there are few.

    A branch learns from the clips that have its modality. Where none has, it is left out of the
    fused probabilities, and the report says so.

    Parameters
    ----------
    index
        A finished cache, or several as :func:`train.data.corpora.join` makes one of them.
    folder
        Where the model goes.
    split
        Actors of each side.
    settings
        How to train.
    go_on
        Whether to go on from an interrupted training in the same folder; None: if it is the same,
        by settings, cache and code. Any other one in the folder is removed.
    progress
        Whether to show bars and a line an epoch.
    strategy
        How the work is distributed over devices; by default over all GPUs where there are several.

    Returns
    -------
    dict
        The test metrics, see :func:`train.evaluation.metrics.metrics`; ``validation`` holds the
        averages of the network before it learned from its actors.

    Raises
    ------
    InputError
        If the cache lacks an actor, a row is not what was written, the interrupted training had
        other settings or code, training and validation clips share no modality, or the loss is not
        finite.
    """
    # A recording filed under two actors leaks from one side to the other.
    copies = duplicates.left_out(duplicates.across_actors(index))
    references = speaker.references(index, settings.speaker_reference, copies)

    def select(
        actors: Sequence[Actor], variants: bool = False, left_out: Collection[str] = copies
    ) -> Rows:
        rows = select_rows(index, actors, variants, left_out, split.clip_seed)
        return speaker.with_reference(rows, references)

    clean, validation = select(split.train), select(split.validation)
    asked = select_rows(index, split.test, clip_seed=split.clip_seed)
    test = speaker.with_reference(asked, references)
    rows = select(split.train, variants=True) if settings.variants else clean
    trained = [name for name in settings.modalities if rows.having(name).any()]
    if not any(validation.having(name).any() for name in trained):
        raise InputError(
            f"expected validation clips with {' or '.join(trained) or 'audio or video'}, as the "
            "training clips have, got none; name other validation actors"
        )
    known = statistics.mfcc_statistics(clean)
    started_with = {
        **json.loads(json.dumps(asdict(settings) | asdict(split))),
        "code": sources.digest(),
        "cache": index.fingerprint,
        "mfcc_checksum": known.checksum,
    }
    work = folder / TRAINING_FOLDER
    if go_on is None and (go_on := checkpoint.is_same(work, started_with)) and progress:
        print(f"going on with the training in {work}; remove that folder to train anew")
    if not go_on:
        # All stages at once: a later one of another training must not be taken for this one's.
        shutil.rmtree(work, ignore_errors=True)
    training = stage.Training(
        work, settings, statistics.class_prior(clean), started_with, go_on, progress
    )

    def build() -> tuple[dict[str, keras.Model], keras.Model]:
        branches = {name: fusion.BUILDERS[name](index.spec, known, settings) for name in INPUTS}
        return branches, fusion.build(branches, trained, settings)

    strategy = strategy or runtime.strategy()
    with strategy.scope(), runtime.precision(settings.precision):
        branches, network = build()
        trainers = {
            name: stage.trainer_of(branches[name], settings, training.prior) for name in trained
        }
    for name in trained:
        train_branch(name, trainers[name], branches[name], network, training, rows, validation)
    if len(trained) > 1:
        with strategy.scope():
            trainers["fusion"] = fusion_trainer(branches, network, training)
        train_fusion("fusion", trainers["fusion"], network, training, rows, validation)
        set_trainable(branches, True)
    limits = {
        name: fit_distance(name, branches[name], network, clean, validation) for name in trained
    }
    fit_fused_temperature(network, validation)
    answers = metrics.within_corpus(validation, metrics.predict(network, validation))
    before_refit = metrics.head_averages(validation, answers, trained)
    if settings.refit_epochs:
        actors = (*split.train, *split.validation)
        everyone = select(actors, settings.variants)
        refit(trainers, branches, network, training, everyone)
        for name, limit in limits.items():
            fit_distance(name, branches[name], network, select(actors), None, limit)

    if settings.precision != "float32" or strategy.num_replicas_in_sync > 1:
        # What is tested and saved computes in float32, on one device.
        weights = network.get_weights()
        _, network = build()
        network.set_weights(weights)

    probabilities = metrics.within_corpus(test, metrics.predict(network, test))
    judged = metrics.metrics(test, probabilities, trained_heads(trained)) | {
        "stamp": speaker.stamp(split.stamp, settings.speaker_reference),
        "validation": before_refit,
    }
    judged["left_out"] += speaker.left_out(asked, test)
    if several := metrics.by_corpus(test, probabilities, trained_heads(trained)):
        judged["corpora"] = several
    target = folder / "report"
    report.write_report(target, test, probabilities, judged)
    report.write_learning_curves(target, stage.join_logs(work, trained))
    robustness.write(target, robustness.measure(network, test, index, trained_heads(trained)))
    artefact.save(
        artefact.Artefact(
            network,
            index.spec,
            split,
            asdict(settings),
            judged,
            tuple(sorted(source_hashes(index, split))),
            index.fingerprint,
            trained_heads(trained),
            corpora.title(index),
            tuple(corpora.describe(index, split, [*clean.clip, *validation.clip])),
        ),
        folder,
    )
    export.write_onnx_if_possible(network, folder)
    return judged


def trained_heads(trained: Collection[str]) -> tuple[str, ...]:
    """Heads that have learned, given the branches that have; fusion joins what there is."""
    return (*(("fused",) if trained else ()), *trained)


def train_branch(
    name: str,
    trainer: stage.Trainer,
    branch: keras.Model,
    network: keras.Model,
    training: stage.Training,
    rows: Rows,
    validation: Rows,
) -> None:
    """Train a branch on the rows that have its modality, and fit its temperature."""
    seen = validation.where(validation.having(name))
    epochs = training.settings.epochs_of(name)
    own = rows.where(rows.having(name))
    stage.train(trainer, name, training, own, seen if len(seen) else None, epochs)
    if len(seen):
        logits = possible(seen, metrics.predict(branch, seen)["logits"])
        set_temperature(network, name, calibration.fit_temperature(logits, seen.label))


def fusion_trainer(
    branches: Mapping[str, keras.Model], network: keras.Model, training: stage.Training
) -> stage.Trainer:
    """Compile the dense layers over the embeddings; the branches stay as they are."""
    set_trainable(branches, False)
    pooled = fusion.pooled_logits(network)
    return stage.trainer_of(pooled, training.settings, training.prior)


def train_fusion(
    name: str,
    trainer: stage.Trainer,
    network: keras.Model,
    training: stage.Training,
    rows: Rows,
    validation: Rows | None,
) -> None:
    """Train the dense layers over the embeddings on the rows that have all modalities."""
    both = rows.where(rows.has_audio & rows.has_video)
    if not len(both):
        return
    seen = validation and validation.where(validation.has_audio & validation.has_video)
    for head in INPUTS:
        # Dropout moves features away from those that distances are fitted on.
        set_distance(network, head, 0.0, 0.0)
    stage.train(trainer, name, training, both, seen or None, training.settings.fusion_epochs)


def refit(
    trainers: Mapping[str, stage.Trainer],
    branches: Mapping[str, keras.Model],
    network: keras.Model,
    training: stage.Training,
    everyone: Rows,
) -> None:
    """Fine-tune branches and fusion on training and validation actors, each for a few epochs."""
    for name, trainer in trainers.items():
        if name == "fusion":
            set_trainable(branches, False)
            train_fusion("refit-fusion", trainer, network, training, everyone, None)
            set_trainable(branches, True)
            continue
        own = everyone.where(everyone.having(name))
        stage.train(trainer, f"refit-{name}", training, own, None, training.settings.refit_epochs)


def set_trainable(branches: Mapping[str, keras.Model], trainable: bool) -> None:
    """Let branches learn, or keep them as they are: their weights and averages."""
    for branch in branches.values():
        branch.trainable = trainable


def possible(rows: Rows, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave emotions that a row's corpus lacks out of its logits."""
    if rows.corpora is None:
        return logits
    return np.where(rows.corpora.mask, logits, np.float32(layers.LACKING))


def set_temperature(network: keras.Model, head: str, temperature: float) -> None:
    """Set what divides the logits of a head."""
    network.get_layer(f"{head}_temperature").temperature.assign(temperature)


def fit_fused_temperature(network: keras.Model, validation: Rows) -> None:
    """Fit the temperature of the fused logits on validation rows."""
    logits = metrics.predict(fusion.pooled_logits(network), validation)["logits"]
    logits = possible(validation, logits)
    set_temperature(network, "fused", calibration.fit_temperature(logits, validation.label))


def fit_distance(
    name: str,
    branch: keras.Model,
    network: keras.Model,
    rows: Rows,
    validation: Rows | None,
    limit: float | None = None,
) -> float | None:
    """Fit a branch's :class:`train.models.layers.MahalanobisDistance`.

    Without a limit all distances stay 0: it is not known which ones are usual.

    Parameters
    ----------
    name, branch, network
        The branch, and the network it belongs to.
    rows
        Clean training rows.
    validation
        Gives the distance that counts as 1; None takes ``limit``.
    limit
        What was returned for the rows before.

    Returns
    -------
    float or None
        Distance that 99 of 100 clips like those of validation stay below; None where none of them
        has the modality.
    """
    own = rows.where(rows.having(name))
    measured = fusion.measured(branch)
    features = metrics.predict(branch, own)[measured]
    whitening, means = distance.fit_gaussians(features, own.label)
    if validation is not None and len(seen := validation.where(validation.having(name))):
        features = metrics.predict(branch, seen)[measured]
        distances = distance.nearest_mean(features, whitening, means)
        limit = distance.usual_limit(distances)
    if limit is None:
        set_distance(network, name, 0.0, 0.0)
    else:
        set_distance(network, name, whitening / limit, means / limit)
    return limit


def set_distance(
    network: keras.Model,
    name: str,
    whitening: NDArray[np.float32] | float,
    means: NDArray[np.float32] | float,
) -> None:
    """Set what the distances of a branch's embeddings are measured by; 0: all are 0."""
    layer = network.get_layer(f"{name}_distance")
    layer.whitening.assign(np.broadcast_to(whitening, layer.whitening.shape))
    layer.means.assign(np.broadcast_to(means, layer.means.shape))
