"""What each command of the trainer does with its options."""

from __future__ import annotations

import argparse
import dataclasses

from pipeline.backends import Workers
from pipeline.cache import index, verify
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from train import duplicates, protocol, runtime
from train.settings import Settings


def refuse_budget(arguments: argparse.Namespace) -> None:
    """Raise where the number of epochs or a seed makes no sense."""
    for seed in arguments.seeds if "seeds" in arguments else [arguments.seed]:
        Settings(epochs=arguments.epochs, seed=seed)


def workers_of(arguments: argparse.Namespace) -> Workers:
    """Who trains, as the options of ``add_budget`` say.

    Raises
    ------
    InputError
        If they contradict each other.
    """
    return Workers(arguments.jobs, arguments.backend, arguments.scheduler)


def refuse_folds(folds: int, most: int) -> None:
    """Raise where there are not so many folds to train."""
    if not 1 <= folds <= most:
        raise InputError(f"expected 1 to {most} folds, got {folds}; choose others")


def open_cache(arguments: argparse.Namespace) -> index.Index:
    """Open the cache that the arguments name, without its damaged clips if they ask for that."""
    cache = index.find_cache(arguments.cache)
    if not arguments.skip_bad:
        return cache
    faults = verify.check_shards(cache.folder, cache.shards, cache.spec)
    for fault in faults:
        print(f"{'left out' if fault.clips else 'fault'}: {cache.folder / str(fault)}")
    return cache.without({clip for fault in faults for clip in fault.clips})


def run_fit(arguments: argparse.Namespace) -> int:
    """Train, test, save and print the table."""
    named = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Settings)
        if hasattr(arguments, field.name)
    }
    settings = Settings(**named, variants=not arguments.clean_only)
    cache = open_cache(arguments)
    split = protocol.split_actors(
        cache.actors,
        getattr(arguments, "test_actors", None),
        getattr(arguments, "validation_actors", None),
    )
    device = runtime.start_tensorflow(settings.seed, getattr(arguments, "deterministic", None))
    from train import evaluate, fit, robustness

    print(
        f"train on actors {format_actors(split.train)}, choose by "
        f"{format_actors(split.validation)}, test on "
        f"{format_actors(split.test)}; {device}"
    )
    print_duplicates(cache)
    judged = fit.fit(cache, arguments.model, split, settings, arguments.resume)
    print(evaluate.table(judged))
    report = arguments.model / "report"
    print((report / robustness.TABLE_NAME).read_text(encoding="utf-8"), end="")
    print(f"model: {arguments.model}, report: {report}")
    return 0


def print_duplicates(cache: index.Index) -> None:
    """Print which clips are not trained on because they are filed under two actors."""
    if groups := duplicates.across_actors(cache):
        print(duplicates.line(groups))


def run_crossval(arguments: argparse.Namespace) -> int:
    """Train and test every fold, write the report and print the table."""
    refuse_budget(arguments)
    workers = workers_of(arguments)
    cache = open_cache(arguments)
    splits = protocol.folds(arguments.protocol, cache.actors, arguments.present_only)
    from train import crossval, judging, rest

    named = protocol.file_name(arguments.protocol)
    calibrated = arguments.calibrated
    kind = "-calibrated" if calibrated else ""
    folder = arguments.model / f"crossval-{named}{kind}-seed-{arguments.seed}"
    settings = {"epochs": arguments.epochs, "seed": arguments.seed, "calibrated": calibrated}
    print_duplicates(cache)
    tasks = crossval.fold_tasks(cache, folder, splits, settings)
    trained = crossval.run(tasks, workers)
    stamp = rest.stamp(protocol.stamp(arguments.protocol, splits), calibrated)
    folders = [task.folder for task in tasks]
    judged = judging.judge(folders, splits, stamp, arguments.real_ravdess)
    judged["minutes"] = [fold["minutes"] for fold in trained]
    judging.write_report(folder / "report", judged)
    print(judging.table(judged))
    print(f"report: {folder / 'report'}")
    return 0


def run_leak(arguments: argparse.Namespace) -> int:
    """Train both ways and print the two numbers side by side."""
    refuse_budget(arguments)
    refuse_folds(arguments.folds, protocol.RANDOM_FOLDS)
    workers = workers_of(arguments)
    cache = open_cache(arguments)
    from train import leak

    folder = arguments.model / f"leak-seed-{arguments.seed}"
    settings = {"epochs": arguments.epochs, "seed": arguments.seed}
    print(leak.table(leak.measure(cache, folder, settings, arguments.folds, workers)))
    print(f"report: {folder / leak.NAME}")
    return 0


def run_ablation(arguments: argparse.Namespace) -> int:
    """Train both recipes with and without variants and print the table."""
    refuse_budget(arguments)
    workers = workers_of(arguments)
    from train import ablation

    caches = ablation.find_recipes(arguments.cache)
    folder = arguments.model / "ablation"
    settings = dataclasses.asdict(Settings(epochs=arguments.epochs))
    rows = ablation.plan_rows(caches, folder, settings, arguments.seeds)
    print(ablation.table(ablation.measure(rows, folder, workers)))
    print(f"report: {folder / ablation.NAME}")
    return 0


def run_choices(arguments: argparse.Namespace) -> int:
    """Train one branch with and without each choice and print the table."""
    from train import choices

    refuse_budget(arguments)
    refuse_folds(arguments.folds, choices.GROUPS)
    workers = workers_of(arguments)
    cache = open_cache(arguments)
    folder = arguments.model / f"choices-{arguments.head}"
    settings = Settings(epochs=arguments.epochs)
    trials = choices.plan(cache, arguments.head, settings, arguments.seeds, arguments.folds)
    print_duplicates(cache)
    print(choices.table(choices.measure(cache, folder, trials, workers)))
    print(f"report: {folder / choices.NAME}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Test a trained model, write the report and print the table."""
    cache = open_cache(arguments)
    runtime.start_tensorflow()
    from train import artefact, confidence, evaluate, rest, robustness, table

    trained = artefact.load(arguments.model)
    if dataclasses.replace(trained.spec, variants=cache.spec.variants) != cache.spec:
        raise InputError(
            f"expected a cache of the model's spec {trained.spec.digest}, got {cache.spec.digest} "
            f"in {arguments.cache}; extract with the recipe the model was trained with"
        )
    if trained.spec != cache.spec:
        print(
            f"the cache has other variants ({', '.join(cache.spec.variants) or 'none'}) than the "
            f"model's ({', '.join(trained.spec.variants) or 'none'}): only clean rows are judged"
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
    rows = table.select_rows(cache, actors)
    if trained.calibrated:
        rows = rest.beside(rows, cache)
    stamp = rest.stamp(trained.split.stamp, trained.calibrated)
    name = f"{arguments.cache.resolve().name}-actors-{format_actors(actors)}"
    own = evaluate.predict(trained.model, rows)
    probabilities = confidence.temper(own, trained.temperatures)
    judged = evaluate.metrics(rows, probabilities, trained.learned) | {"stamp": stamp}
    judged["seen_in_training"] = sorted(seen & set(actors))
    report = arguments.model / f"report-{name}"
    evaluate.write_report(report, rows, probabilities, judged)
    print(evaluate.table(judged))
    measured = robustness.measure(trained.model, rows, trained.learned)
    robustness.write(report, measured)
    print(robustness.table(measured))
    if judged["seen_in_training"]:
        print(
            f"not a test: the model was trained on recordings of actors "
            f"{format_actors(judged['seen_in_training'])}"
        )
    print(f"report: {report}")
    return 0
