"""What ``fit`` and ``evaluate`` do with their options."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from pipeline.cache import index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from train import runtime
from train.data import duplicates
from train.settings import Settings, scaled
from train.studies import protocol


def add_places(command: argparse.ArgumentParser) -> None:
    """Add the options that name cache and model."""
    command.add_argument(
        "--cache",
        type=Path,
        default=Path("data/cache"),
        metavar="DIR",
        help="folder of caches, or one cache",
    )
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="read the whole cache first and do without its damaged clips",
    )
    command.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )


def open_cache(arguments: argparse.Namespace) -> index.Index:
    """Open the cache that the arguments name, without its damaged clips if they ask for that."""
    cache = index.find_cache(arguments.cache)
    if not arguments.skip_bad:
        return cache
    # It can repair, and so needs all that extracts.
    from pipeline.cache import verify

    faults = verify.check_shards(cache.folder, cache.shards, cache.spec)
    for fault in faults:
        print(f"{'left out' if fault.clips else 'fault'}: {cache.folder / str(fault)}")
    return cache.without({clip for fault in faults for clip in fault.clips})


def print_duplicates(cache: index.Index) -> None:
    """Print which clips are not trained on because they are filed under two actors."""
    if groups := duplicates.across_actors(cache):
        print(duplicates.line(groups))


def run_fit(arguments: argparse.Namespace) -> int:
    """Train, test, save and print the table."""
    named = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Settings)
        if hasattr(arguments, field.name)
    }
    settings = scaled(Settings(**named, variants=not arguments.clean_only), arguments.epochs_scale)
    cache = open_cache(arguments)
    split = protocol.split_actors(
        cache.actors,
        getattr(arguments, "test_actors", None),
        getattr(arguments, "validation_actors", None),
    )
    device = runtime.start_tensorflow(settings.seed, getattr(arguments, "deterministic", None))
    from train import fit
    from train.evaluation import metrics, robustness

    print(
        f"train on actors {format_actors(split.train)}, choose by "
        f"{format_actors(split.validation)}, test on "
        f"{format_actors(split.test)}; {device}"
    )
    print_duplicates(cache)
    judged = fit.fit(cache, arguments.model, split, settings, arguments.resume)
    print(metrics.table(judged))
    report = arguments.model / "report"
    print((report / robustness.TABLE_NAME).read_text(encoding="utf-8"), end="")
    print(f"model: {arguments.model}, report: {report}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Test a trained model, write the report and print the table."""
    cache = open_cache(arguments)
    runtime.start_tensorflow()
    from train import artefact
    from train.data import rows, speaker
    from train.evaluation import metrics, report, robustness

    trained = artefact.load(arguments.model)
    if dataclasses.replace(trained.spec, variants=cache.spec.variants) != cache.spec:
        raise InputError(
            f"expected a cache of the model's spec {trained.spec.digest}, got {cache.spec.digest} "
            f"in {arguments.cache}; extract with the recipe the model was trained with"
        )
    if trained.spec != cache.spec:
        print(
            f"the cache holds other variants ({', '.join(cache.spec.variants) or 'none'}) than the "
            f"model's ({', '.join(trained.spec.variants) or 'none'}): only clean rows are tested"
        )
    known = set(trained.seen)
    seen = {
        entry.actor
        for entry in cache.clips
        if any(source.sha256 in known for source in entry.sources)
    }
    actors = getattr(arguments, "actors", None) or sorted(set(cache.actors) - seen)
    if not actors:
        raise InputError(
            f"expected actors the model has not seen in {arguments.cache}, got none; "
            "name some with --actors to test on seen ones all the same"
        )
    references = speaker.references(cache, trained.speaker_reference)
    chosen = speaker.with_reference(rows.select_rows(cache, actors), references)
    probabilities = metrics.predict(trained.model, chosen)
    judged = metrics.metrics(chosen, probabilities, trained.learned) | {
        "stamp": speaker.stamp(trained.split.stamp, trained.speaker_reference),
        "seen_in_training": sorted(seen & set(actors)),
    }
    name = f"{arguments.cache.resolve().name}-actors-{format_actors(actors)}"
    folder = arguments.model / f"report-{name}"
    report.write_report(folder, chosen, probabilities, judged)
    print(metrics.table(judged))
    measured = robustness.measure(trained.model, chosen, cache, trained.learned)
    robustness.write(folder, measured)
    print(robustness.table(measured))
    if judged["seen_in_training"]:
        print(
            f"not a test: the model was trained on recordings of actors "
            f"{format_actors(judged['seen_in_training'])}"
        )
    print(f"report: {folder}")
    return 0
