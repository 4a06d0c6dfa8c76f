"""The speaker reference: what a person sounds and looks like on average, without labels.

It makes a result transductive: a clip of a test actor is compared with other clips of the same
actor. Reports are stamped with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.index import Index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train.data import dataset
from train.data.rows import Rows, SpeakerReference, select_rows

STAMPS = {
    "none": None,
    "neutral": "compared with neutral clips of each speaker: not actor-independent",
    "recording": "compared with other clips of each speaker: transductive, not actor-independent",
}


def stamp(of_split: str | None, speaker_reference: str) -> str | None:
    """Say all that keeps a result from being compared with others, None where nothing does."""
    return "; ".join(filter(None, (STAMPS[speaker_reference], of_split))) or None


def averages(rows: Rows) -> dict[str, NDArray[np.float32]]:
    """Average each row over time.

    Parameters
    ----------
    rows
        Clean rows.

    Returns
    -------
    dict of str to ndarray
        ``mfcc_reference`` float32 (rows, mfcc_count), over the columns that hold anything, and
        ``frames_reference`` float32 (rows, height, width, 4), edges of
        :func:`train.models.video.edges`.
    """
    import keras

    from train.models import layers, video

    frames = keras.Input(rows.spec.frames_shape, dtype="uint8", name="frames")
    mfcc = keras.Input(rows.spec.mfcc_shape, name="mfcc")
    outputs = {
        "mfcc_reference": layers.ColumnMean()(mfcc),
        "frames_reference": keras.ops.mean(video.edges(frames), axis=1),
    }
    model = keras.Model({"mfcc": mfcc, "frames": frames}, outputs)
    batches = dataset.in_order(rows, dataset.EVALUATION_BATCH_SIZE)
    with dataset.input_errors():
        return model.predict(batches.map(lambda tensors, _: tensors), verbose=0)


@dataclass(frozen=True)
class References:
    """Speaker reference of each clip of a cache.

    Parameters
    ----------
    tensors
        See :class:`train.data.rows.SpeakerReference`.
    place
        Place of each clip in these; clips whose speaker has no other clip are not there.
    """

    tensors: dict[str, NDArray[np.float32]]
    place: dict[str, int]


def references(
    index: Index, speaker_reference: str, left_out: Collection[str] = ()
) -> References | None:
    """Average the other clips of each clip's speaker.

    Parameters
    ----------
    index
        A finished cache.
    speaker_reference
        ``"recording"`` takes all clips of the speaker, ``"neutral"`` the neutral ones; the clip
        itself is never among them. ``"none"``: None is returned.
    left_out
        Ids of clips that are in no mean, see :func:`train.data.duplicates.left_out`: a recording
        that is filed under two speakers tells of neither.
    """
    if speaker_reference == "none":
        return None
    clean = select_rows(index, index.actors)
    tensors = averages(clean)
    serving = ~np.isin(clean.clip, list(left_out))
    if speaker_reference == "neutral":
        serving &= clean.label == EMOTIONS.index("neutral")
    having = {"mfcc_reference": clean.has_audio, "frames_reference": clean.has_video}
    found = clean.has_audio | clean.has_video
    means = {name: np.zeros_like(values) for name, values in tensors.items()}
    for actor in index.actors:
        own = clean.actor == actor
        for name, values in tensors.items():
            used = own & serving & having[name]
            total = values[used].sum(axis=0, dtype=np.float64)
            for number in np.flatnonzero(own):
                others = int(used.sum()) - int(used[number])
                left = total - values[number] if used[number] else total
                means[name][number] = left / max(1, others)
                # Zeros would be taken for a speaker's average.
                found[number] &= others > 0 or not having[name][number]
    place = {clip: number for number, clip in enumerate(clean.clip) if found[number]}
    return References(means, place)


def left_out(before: Rows, after: Rows) -> list[str]:
    """Say how many clips :func:`with_reference` has left out, and whose."""
    gone = ~np.isin(before.clip, after.clip)
    if not gone.any():
        return []
    actors = format_actors(np.unique(before.actor[gone]).tolist())
    return [f"{gone.sum()} clips of actors {actors}: no other clip to compare them with"]


def with_reference(rows: Rows, known: References | None) -> Rows:
    """Give each row its speaker reference; rows without one are left out.

    Raises
    ------
    InputError
        If no row is left.
    """
    if known is None:
        return rows
    kept = np.array([clip in known.place for clip in rows.clip])
    if not kept.any():
        actors = format_actors(np.unique(rows.actor).tolist())
        raise InputError(
            f"expected other clips of actors {actors} as a speaker reference, got none; use "
            "--speaker-reference none"
        )
    rows = rows.where(kept)
    place = np.array([known.place[clip] for clip in rows.clip])
    return dataclasses.replace(rows, reference=SpeakerReference(known.tensors, place))
