"""What ``fit`` and ``evaluate`` do with their options."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cache import index
from pipeline.corpora.actors import Actor, format_actors
from train import runtime
from train.data import corpora, corpus_names, duplicates
from train.settings import Settings, scaled
from train.studies import corpora_splits


def add_places(command: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options that name cache and model; ``several`` caches may be named."""
    command.add_argument(
        "--cache",
        type=Path,
        default=Path("data/cache"),
        nargs="+" if several else None,
        metavar="DIR",
        help="folder of caches, or one cache" + ("; one for each corpus" if several else ""),
    )
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="read the whole cache first and do without its damaged clips",
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the option that names the folder of a model."""
    command.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )


def several(given: Path | list[Path]) -> list[Path]:
    """Return what an option names that takes one path or more; its default is one."""
    return given if isinstance(given, list) else [given]


def open_joined(arguments: argparse.Namespace) -> index.Index:
    """Open the caches that the arguments name as one, and say what each brings."""
    cache = corpora.join(
        [open_cache(path, arguments.skip_bad) for path in several(arguments.cache)]
    )
    for line in corpora.lines(cache):
        print(line)
    return cache


def open_cache(path: Path, skip_bad: bool = False) -> index.Index:
    """Open a cache, without its damaged clips if that is asked for."""
    cache = index.find_cache(path)
    if not skip_bad:
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
    cache = open_joined(arguments)
    split = corpora.split(
        cache,
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
    judged = fit.fit(cache, arguments.model, split, settings, arguments.resume or None)
    print(metrics.table(judged))
    report = arguments.model / "report"
    print((report / robustness.TABLE_NAME).read_text(encoding="utf-8"), end="")
    print(f"model: {arguments.model}, report: {report}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Test trained models on caches, write reports and print tables."""
    paths, folders = several(arguments.cache), several(arguments.model)
    caches = [open_cache(path, arguments.skip_bad) for path in paths]
    corpora.refuse_same(caches)
    alone = len(caches) == len(folders) == 1
    names = [paths[0].resolve().name] if alone else corpus_names.names_of(caches)
    named: tuple[Actor, ...] | None = getattr(arguments, "actors", None)
    actors: Mapping[str, Sequence[Actor] | None] = {names[0]: named}
    if len(caches) > 1:
        actors = corpora_splits.numbers_by_corpus(named or (), names)
    runtime.start_tensorflow()
    from train import artefact
    from train.evaluation import evaluate

    models = [(folder, artefact.load(folder)) for folder in folders]
    tested = [
        evaluate.Tested(name, path, cache, actors[name])
        for name, path, cache in zip(names, paths, caches, strict=True)
    ]
    pairs = [(model, one) for _, model in models for one in tested]
    said = [evaluate.refuse_other_spec(model, one.index, one.path) for model, one in pairs]
    for line in dict.fromkeys(filter(None, said)):
        print(line)
    if alone:
        evaluate.evaluate_one(*models[0], tested[0])
    else:
        evaluate.evaluate_all(models, tested)
    return 0
