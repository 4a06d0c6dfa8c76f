"""A clip, and the catalogue of the clips of a raw folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.spec import EMOTIONS

FILES = {
    (True, True): "video and audio files",
    (True, False): "video files alone",
    (False, True): "audio files alone",
}
"""What a clip consists of, by whether it has a video file and an audio file."""


@dataclass(frozen=True)
class Clip:
    """One recording of one actor who expresses one emotion.

    Parameters
    ----------
    id
        Unique in its catalogue: the take, such as the last six fields of a RAVDESS name, or the
        path in ``clips.csv``.
    actor
        Number of the actor, at least 1.
    emotion
        One of :data:`pipeline.spec.EMOTIONS`.
    video
        File with the frames; None for audio alone.
    audio
        File with the audio; None where the video's own track is used, if it has one.

    Raises
    ------
    ValueError
        If there is neither a video nor an audio file.
    """

    id: str
    actor: int
    emotion: str
    video: Path | None = None
    audio: Path | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(f"expected a video or an audio file of clip {self.id}, got neither")

    @property
    def label(self) -> int:
        """Index of the emotion in :data:`pipeline.spec.EMOTIONS`."""
        return EMOTIONS.index(self.emotion)

    @property
    def audio_source(self) -> Path:
        """File that audio is read from. A video may turn out to have no audio track."""
        return self.sources[-1]

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files whose content decides this clip's features: video, then audio."""
        return tuple(path for path in (self.video, self.audio) if path is not None)


@dataclass
class Catalogue:
    """What a raw folder holds. Each list of files gives the reason beside each path.

    Parameters
    ----------
    root
        The raw folder.
    clips
        Usable clips, sorted by actor and id.
    unreadable
        Media files whose names say nothing usable, or that the corpus gives no usable label.
    misplaced
        Files whose name and folder disagree about the actor.
    duplicates
        Further copies of a take that is already in ``clips``.
    unreachable
        Folders, links and media files that the system could not open: what they hold is unknown,
        so the catalogue is incomplete.
    actor_names
        Name of each numbered actor, where the corpus or a ``clips.csv`` has names instead of
        numbers.
    corpus
        Title of the corpus that was recognised or asked for; empty for a ``clips.csv``.
    published
        How many clips that corpus consists of; 0 where that is not known.
    """

    root: Path
    clips: list[Clip] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    misplaced: list[tuple[Path, str]] = field(default_factory=list)
    duplicates: list[tuple[Path, str]] = field(default_factory=list)
    unreachable: list[tuple[Path, str]] = field(default_factory=list)
    actor_names: dict[int, str] = field(default_factory=dict)
    corpus: str = ""
    published: int = 0

    @property
    def actors(self) -> list[int]:
        """Sorted numbers of the actors that have clips."""
        return sorted({clip.actor for clip in self.clips})

    def file_counts(self) -> dict[str, int]:
        """Count the clips by which files they consist of; the keys are those of ``FILES``."""
        counts = Counter((clip.video is not None, clip.audio is not None) for clip in self.clips)
        return {name: counts[files] for files, name in FILES.items()}
