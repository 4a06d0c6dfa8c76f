"""Train, choose by validation actors, learn from them too, test once, save: a straight line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.cache.index import Index
from pipeline.errors import InputError
from train import (
    artefact,
    confidence,
    duplicates,
    evaluate,
    figures,
    model,
    reading,
    rest,
    resume,
    robustness,
    runtime,
    sources,
    stage,
    table,
)
from train.heads import HEADS
from train.protocol import Split
from train.settings import Settings

TRAINING_FOLDER = "training"
WARM_START_FOLDER = "warm-start"
REFIT_FOLDER = "refit"


def fit(
    index: Index,
    folder: Path,
    split: Split,
    settings: Settings,
    go_on: bool = False,
    progress: bool = True,
) -> dict:
    """Train on a cache and leave a tested model in a folder.

    The audio branch begins alone: it learns longer than video, and an epoch of it is cheap.
    Validation actors choose the epoch, the votes and the temperatures; then the chosen network
    learns from them too, because every actor counts where there are few.

    A head learns from the clips that have its modality. Where none has, it is left out of all that
    is averaged, and the report says so.

    Parameters
    ----------
    index
        A finished cache.
    folder
        Where the model goes.
    split
        Who trains, who chooses, who tests.
    settings
        How to train.
    go_on
        Whether to go on from an interrupted training in the same folder.
    progress
        Whether to show a bar and a line an epoch.

    Returns
    -------
    dict
        The test metrics, see :func:`train.evaluate.metrics`; ``validation`` holds averages of the
        network that had not learned from its actors yet.

    Raises
    ------
    InputError
        If the cache lacks an actor, a row is not what was written, the interrupted training had
        other settings or code, training and validation clips share no modality, or the loss is no
        longer a number.
    """
    # A recording filed under two actors leaks from one side to the other.
    copies = duplicates.left_out(duplicates.across_actors(index))

    def select(
        actors: Sequence[int], variants: bool = False, left_out: Collection[str] = copies
    ) -> table.Rows:
        rows = table.select_rows(index, actors, variants, left_out, split.clip_seed)
        return rest.beside(rows, index, copies) if settings.calibrated else rows

    training = select(split.train, settings.variants)
    clean = select(split.train)
    validation = select(split.validation)
    all_but_test = select((*split.train, *split.validation), settings.variants)
    test = select(split.test, left_out=())
    learned = learned_heads(training)
    branches = [head for head in learned if head != "fused"]
    if not any(validation.having(head).any() for head in branches):
        raise InputError(
            f"expected validation clips with {' or '.join(branches)}, as the training clips have, "
            "got none; name other validation actors"
        )

    work = folder / TRAINING_FOLDER
    known = reading.mfcc_statistics(clean)
    started_with = {
        **asdict(settings),
        **json.loads(json.dumps(asdict(split))),
        "code": sources.digest(),
        "cache": index.fingerprint,
        "mfcc_checksum": known.checksum,
    }
    if not go_on:
        # All stages at once: a later one of another training must not be taken for this one's.
        shutil.rmtree(work, ignore_errors=True)
    with runtime.precision(settings.precision):
        network = model.build_fusion_cnn(
            index.spec, known.mean, known.variance, settings.dropout, calibrated=settings.calibrated
        )
    before = settings.warm_start_epochs if "audio" in learned else 0
    if before:
        heard = training.where(training.has_audio)
        warm_start = stage.Stage(
            "audio", ("audio",), work, work / WARM_START_FOLDER, heard, None, before
        )
        audio = stage.compiled(network, settings, warm_start.heads)
        stage.learn(audio, warm_start, known, settings, started_with, go_on, progress)
    lessons = stage.compiled(network, settings, learned)
    first = stage.Stage("train", learned, work, work, training, validation, settings.epochs, before)
    stage.learn(lessons, first, known, settings, started_with, go_on, progress)
    last = evaluate.predict(network, validation)
    resume.load_best(lessons, first.folder, resume.read_state(first.folder, started_with))
    best = evaluate.predict(network, validation)
    votes = confidence.expected_votes(learned)
    both = validation.has_audio & validation.has_video
    if "fused" in learned and both.any():
        of_both = {head: values[both] for head, values in best.items()}
        votes = confidence.fit_votes(of_both, validation.label[both])
    frequencies = confidence.frequencies(training.label)
    chosen_by = confidence.balance(confidence.vote(best, votes), frequencies)

    measured_by = chosen_by
    if settings.refit_epochs:
        second = stage.Stage(
            "refit",
            learned,
            work,
            work / REFIT_FOLDER,
            all_but_test,
            None,
            settings.refit_epochs,
            before + settings.epochs,
        )
        lessons = stage.compiled(network, settings, learned)
        stage.learn(lessons, second, known, settings, started_with, go_on, progress)
        # Answers grow surer with every epoch. No actor is left to measure how sure they are after
        # the refit; the last epoch of the first stage had as long to learn.
        measured_by = confidence.balance(confidence.vote(last, votes), frequencies)
    having = {head: validation.having(head) for head in HEADS if head == "fused" or head in learned}
    temperatures = confidence.fit_temperatures(measured_by, validation.label, having)

    voting = model.build_fusion_cnn(
        index.spec,
        known.mean,
        known.variance,
        settings.dropout,
        votes,
        frequencies,
        settings.calibrated,
    )
    voting.set_weights(network.get_weights())

    probabilities = confidence.temper(evaluate.predict(voting, test), temperatures)
    judged = evaluate.metrics(test, probabilities, learned) | {
        "stamp": rest.stamp(split.stamp, settings.calibrated),
        "validation": evaluate.head_averages(validation, chosen_by, learned),
        "votes": votes,
    }
    report = folder / "report"
    evaluate.write_report(report, test, probabilities, judged)
    figures.draw_curves(report / "learning_curves.png", work / stage.LOG_NAME)
    robustness.write(report, robustness.measure(voting, test, learned))
    artefact.save(
        artefact.Artefact(
            voting,
            index.spec,
            split,
            asdict(settings),
            judged,
            tuple(sorted(table.source_hashes(index, split))),
            index.fingerprint,
            temperatures,
            learned,
        ),
        folder,
    )
    return judged


def learned_heads(rows: table.Rows) -> tuple[str, ...]:
    """Heads that learn from some training rows; fusion, from rows with both modalities."""
    teaching = {
        "fused": rows.has_audio & rows.has_video,
        "audio": rows.has_audio,
        "video": rows.has_video,
    }
    return tuple(head for head in HEADS if teaching[head].any())
