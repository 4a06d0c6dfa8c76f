"""How a model does when a modality is missing or degraded."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache.facts import ClipEntry
from pipeline.cache.index import Index
from pipeline.corpora import sources
from pipeline.spec import FeatureSpec
from train.evaluation import metrics
from train.heads import HEADS, INPUTS

if TYPE_CHECKING:
    import keras

    from train.data.rows import Rows

MOST_CLIPS = 240
"""Of more clips than this a sample is taken, to keep the table cheap."""

NOISE_LEVELS_DB = (20, 10, 0)
COLUMNS = ("fused UAR", "fused WAR", *(f"{branch} UAR" for branch in INPUTS))
"""The fused head, then each branch's own."""

JSON_NAME, TABLE_NAME = "robustness.json", "robustness.md"

Degrade = Callable[[dict[str, NDArray], NDArray[np.int64]], dict[str, NDArray]]
"""Makes of a batch by tensor name, and its places among the clips, another batch."""


def audio_path(root: Path, entry: ClipEntry) -> Path:
    """Path of the raw file that a clip's audio was read from; a video comes first of two."""
    return root / entry.sources[-1].path


def changed_files(index: Index, entries: Collection[ClipEntry]) -> list[Path]:
    """List raw files with the audio of clips that are gone or hold something else by now."""
    root = Path(index.root)
    return [
        path
        for entry in entries
        for path in [audio_path(root, entry)]
        if not path.is_file() or sources.file_sha256(path) != entry.sources[-1].sha256
    ]


def noisy_mfcc(
    root: Path, entry: ClipEntry, levels_db: Collection[float | None], spec: FeatureSpec
) -> list[NDArray[np.float32]]:
    """MFCC images of a clip with white noise in its audio, made as the cached ones are.

    Parameters
    ----------
    root, entry
        Raw folder, and a clip with audio.
    levels_db
        Power of the window over that of the noise; None adds none and gives the cached image.
    spec
        Of the cache.

    Returns
    -------
    list of ndarray of float32, shape (mfcc_count, mfcc_columns, 1)

    Raises
    ------
    MediaError
        If the file cannot be read.
    """
    # Training itself needs no part of the extraction.
    from pipeline.corpora.clip import Clip
    from pipeline.features import augment, extract, mfcc

    video = root / entry.sources[0].path if entry.has_video else None
    audio = audio_path(root, entry)
    clip = Clip(entry.clip, entry.actor, entry.emotion, video, None if audio == video else audio)
    waveform = extract.read_clip_waveform(clip, spec)
    span = extract.clip_span(waveform, spec, extract.deciding_seconds(clip, waveform, spec))
    window = mfcc.cut(waveform, *span)
    images = []
    for level in levels_db:
        random = augment.generator(entry.clip, f"white noise at {level} dB", spec)
        change = augment.Change(noise_snr_db=level)
        images.append(mfcc.mfcc(augment.change_waveform(window, change, random, spec), spec))
    return images


def zero(name: str) -> Degrade:
    """Return what takes a modality away."""
    return lambda batch, places: batch | {name: np.zeros_like(batch[name])}


def heard_as(images: NDArray[np.float32]) -> Degrade:
    """Return what takes the MFCCs of each row from others, (rows, ...)."""
    return lambda batch, places: batch | {"mfcc": images[places]}


def blacken_half(batch: dict[str, NDArray], places: NDArray[np.int64]) -> dict[str, NDArray]:
    """Turn half of the frames of each row black, at random."""
    frames = batch["frames"].copy()
    for row, place in zip(frames, places, strict=True):
        count = len(row)
        row[np.random.default_rng(int(place)).permutation(count)[: count // 2]] = 0
    return batch | {"frames": frames}


def conditions(rows: Rows, index: Index, learned: Collection[str]) -> tuple[dict, list[str]]:
    """List what is done to clean rows of a cache, by name, and say what cannot be done.

    Only modalities that are tested are degraded; the untouched rows come first.
    """
    judged, left_out = metrics.judged_rows(rows, learned), metrics.left_out(rows, learned)
    listed: dict[str, Degrade] = {"untouched": lambda batch, places: batch}
    if "audio" in judged and "video" in judged:
        listed |= {"no audio": zero("mfcc"), "no video": zero("frames")}
    if "video" in judged:
        listed["half of the frames black"] = blacken_half
    if "audio" in judged:
        by_clip = {entry.clip: entry for entry in index.clips}
        entries = [by_clip[clip] for clip in rows.clip[rows.has_audio]]
        if gone := changed_files(index, entries):
            left_out.append(
                f"white noise: {len(gone)} of {len(entries)} raw files in {index.root} are gone or "
                "changed"
            )
            return listed, left_out
        noisy = np.zeros((len(NOISE_LEVELS_DB), len(rows), *rows.spec.mfcc_shape), np.float32)
        for place, entry in zip(np.flatnonzero(rows.has_audio), entries, strict=True):
            noisy[:, place] = noisy_mfcc(Path(index.root), entry, NOISE_LEVELS_DB, rows.spec)
        for level, images in zip(NOISE_LEVELS_DB, noisy, strict=True):
            listed[f"white noise at {level} dB"] = heard_as(images)
    return listed, left_out


def measure(model: keras.Model, rows: Rows, index: Index, learned: Collection[str] = HEADS) -> dict:
    """Test a model on degraded rows.

    Parameters
    ----------
    model
        See :func:`train.models.fusion.build`.
    rows
        Clean rows of test actors; at most ``MOST_CLIPS`` of them are taken. A speaker reference
        stays that of the clean clips.
    index
        The cache they lie in; it names the raw files that noise is added to.
    learned
        See :func:`train.evaluation.metrics.judged_rows`.

    Returns
    -------
    dict
        ``clips``, ``left_out`` and ``conditions``: of each condition and head ``war`` and ``uar``.
    """
    from train.data import dataset

    rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_CLIPS]))
    listed, left_out = conditions(rows, index, learned)
    answers: dict = {name: {head: [] for head in HEADS} for name in listed}
    done = 0
    with dataset.input_errors():
        for tensors, label in dataset.in_order(rows, dataset.EVALUATION_BATCH_SIZE, model.input):
            batch = {name: tensor.numpy() for name, tensor in tensors.items()}
            places = np.arange(done, done := done + len(label))
            for name, degrade in listed.items():
                outputs = model.predict_on_batch(degrade(batch, places))
                for head in HEADS:
                    answers[name][head].append(np.asarray(outputs[head]))
    return {
        "clips": len(rows),
        "left_out": left_out,
        "conditions": {
            name: metrics.head_averages(rows, metrics.within_corpus(rows, probabilities), learned)
            for name, heads in answers.items()
            for probabilities in [{head: np.concatenate(own) for head, own in heads.items()}]
        },
    }


def averages(measured: Mapping) -> dict[str, list[float | None]]:
    """Return the values of :data:`COLUMNS` under each condition; None for what is not tested."""
    return {
        name: [
            *(heads["fused"][which] for which in ("uar", "war")),
            *(heads.get(branch, {}).get("uar") for branch in INPUTS),
        ]
        for name, heads in measured["conditions"].items()
    }


def table(measured: Mapping) -> str:
    """Markdown table of :func:`averages`, in percent."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|{'---|' * (1 + len(COLUMNS))}"]
    for name, values in averages(measured).items():
        cells = " | ".join("left out" if v is None else f"{100 * v:.1f}" for v in values)
        lines.append(f"| {name} | {cells} |")
    said = "".join(f"; {line}" for line in measured["left_out"])
    return "\n".join([*lines, "", f"{measured['clips']} test clips; in percent{said}"])


def write(folder: Path, measured: Mapping) -> None:
    """Write ``robustness.json`` and ``robustness.md`` into a report."""
    atomic.write_durably(folder / JSON_NAME, json.dumps(measured, indent=1).encode())
    atomic.write_durably(folder / TABLE_NAME, f"{table(measured)}\n".encode())
