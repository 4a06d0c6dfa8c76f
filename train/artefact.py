"""A trained model and all that made it, saved and loaded as one thing."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import keras

from pipeline import atomic
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec
from train import (
    description,
    models,  # noqa: F401 - registers the layers of a saved model
)
from train.description import DESCRIPTION_NAME, FORMAT_VERSION, KERAS_NAME, TRAIN_AGAIN
from train.heads import HEADS
from train.studies.protocol import Split

DAMAGE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError)
"""What reading a model raises where it is not what was written."""

LIBRARIES = ("tensorflow", "keras", "numpy", "librosa", "opencv-python", "av", "h5py")


@dataclass(frozen=True)
class Artefact:
    """A trained model with what it needs to be used and judged.

    Parameters
    ----------
    model
        See :func:`train.models.fusion.build`.
    spec
        What its inputs mean.
    split
        Actors of each side.
    settings
        What it was trained with, the seed included.
    metrics
        Test results, see :func:`train.evaluation.metrics.metrics`.
    seen
        Hashes of the recordings it was trained on or chosen by.
    cache
        Fingerprint of the cache it was trained on.
    learned
        Heads that were trained; the probabilities of others mean nothing.
    corpus
        What the clips are, in words.
    corpora
        What it has learned from, see :func:`train.data.corpora.describe`.
    """

    model: keras.Model
    spec: FeatureSpec
    split: Split
    settings: dict
    metrics: dict = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    cache: str = ""
    learned: tuple[str, ...] = HEADS
    corpus: str = ""
    corpora: tuple[dict, ...] = ()

    @property
    def speaker_reference(self) -> str:
        """What each clip is compared with, see :mod:`train.data.speaker`."""
        return self.settings.get("speaker_reference", "none")


def save(artefact: Artefact, folder: Path) -> None:
    """Write ``model.keras`` and ``model.json``, never one of them beside an older other one.

    Raises
    ------
    OSError
        If the disk refuses; what was there stays.
    """
    described = {
        "format_version": FORMAT_VERSION,
        "spec": json.loads(artefact.spec.to_json()),
        "spec_digest": artefact.spec.digest,
        "emotions": EMOTIONS,
        "actors": {
            "train": artefact.split.train,
            "validation": artefact.split.validation,
            "test": artefact.split.test,
        },
        "clip_seed": artefact.split.clip_seed,
        "settings": artefact.settings,
        "metrics": artefact.metrics,
        "learned": artefact.learned,
        "corpus": artefact.corpus,
        "corpora": artefact.corpora,
        "libraries": library_versions(),
        "git_commit": git_commit(),
        "cache": artefact.cache,
        "seen": artefact.seen,
    }
    # Keras takes a file for a model by its suffix.
    partial, text = folder / f"partial-{KERAS_NAME}", folder / f"partial-{DESCRIPTION_NAME}"
    try:
        with atomic.refusals_named(partial):
            # A fresh wrapper around the same layers: without the optimizer it is a third as large.
            network = artefact.model
            keras.Model(network.input, network.output, name=network.name).save(partial)
        with atomic.refusals_named(text):
            text.write_text(json.dumps(described, indent=1), encoding="utf-8")
        atomic.sync(partial)
        atomic.sync(text)
        (folder / DESCRIPTION_NAME).unlink(missing_ok=True)
        atomic.replace_durably(partial, folder / KERAS_NAME)
        atomic.replace_durably(text, folder / DESCRIPTION_NAME)
    finally:
        partial.unlink(missing_ok=True)
        text.unlink(missing_ok=True)


def load(folder: Path) -> Artefact:
    """Load what :func:`save` wrote.

    Raises
    ------
    InputError
        If a file is missing, or holds something this code cannot serve.
    """
    content, spec = description.read(folder)
    actors = {side: tuple(numbers) for side, numbers in content["actors"].items()}
    try:
        # Safe mode: a model file from elsewhere must not bring code with it.
        model = keras.models.load_model(folder / KERAS_NAME, compile=False, safe_mode=True)
        return Artefact(
            model,
            spec,
            Split(**actors, clip_seed=content.get("clip_seed")),
            content["settings"],
            content["metrics"],
            tuple(content["seen"]),
            content["cache"],
            tuple(content.get("learned", HEADS)),
            str(content.get("corpus", "")),
            tuple(content.get("corpora", ())),
        )
    except (*DAMAGE_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"expected a model this code can serve in {folder}, got: {reason}; {TRAIN_AGAIN}"
        ) from error


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide results."""
    installed = {dist.name.lower(): dist.version for dist in importlib.metadata.distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}


def git_commit() -> str | None:
    """Commit of this code, None outside of a repository."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
