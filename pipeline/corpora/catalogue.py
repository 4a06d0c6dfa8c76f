"""File names to clips: a sorted scan of the raw folder, audio paired with video by take."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InputError
from pipeline.spec import EMOTIONS

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg"}
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus"}
CHANNELS = {"speech": "01", "song": "02"}
CSV_NAME = "clips.csv"
CSV_COLUMNS = ("video", "audio", "emotion", "actor")

FIELD_PATTERN = re.compile(r"\d{2}(-\d{2}){6}", re.ASCII)
FIELD_NAMES = ("modality", "channel", "emotion", "intensity", "statement", "repetition", "actor")
FIELD_LIMITS = (3, 2, 8, 2, 2, 2, 24)
ACTOR_FOLDER_PATTERN = re.compile(r"actor[_ -]?(\d+)$", re.IGNORECASE)
VIDEO_ONLY = "02"
MODALITY_PREFERENCE = ("01", "03", VIDEO_ONLY)


@dataclass(frozen=True)
class Clip:
    """One recording: a video, its sound, who it shows and what they express.

    Parameters
    ----------
    id
        The take: the last six fields of a RAVDESS name, or the video's path in ``clips.csv``.
    actor
        Number of the person, at least 1.
    emotion
        One of :data:`pipeline.spec.EMOTIONS`.
    video
        File with the pictures.
    audio
        File with the sound; None where the video's own track is used.
    """

    id: str
    actor: int
    emotion: str
    video: Path
    audio: Path | None = None

    @property
    def label(self) -> int:
        """Index of the emotion in :data:`pipeline.spec.EMOTIONS`."""
        return EMOTIONS.index(self.emotion)

    @property
    def sound(self) -> Path:
        """File that the sound is read from."""
        return self.audio or self.video

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files whose content decides this clip's features."""
        return (self.video,) if self.audio is None else (self.video, self.audio)


@dataclass
class Catalog:
    """What a raw folder holds.

    Parameters
    ----------
    root
        The raw folder.
    clips
        Usable clips, sorted by actor and id.
    unpaired
        Files that lack their other half, with the reason.
    unreadable
        Media files whose names say nothing usable, with the reason.
    misplaced
        Files whose name and folder disagree about the actor, with the reason.
    duplicates
        Further copies of a take that is already in ``clips``, with the reason.
    """

    root: Path
    clips: list[Clip] = field(default_factory=list)
    unpaired: list[tuple[Path, str]] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    misplaced: list[tuple[Path, str]] = field(default_factory=list)
    duplicates: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def actors(self) -> list[int]:
        """Sorted numbers of the actors that have clips."""
        return sorted({clip.actor for clip in self.clips})


def parse_name(stem: str) -> dict[str, str]:
    """Split a RAVDESS file name into its seven fields.

    Parameters
    ----------
    stem
        File name without its suffix, such as ``"01-01-08-02-01-01-19"``.

    Returns
    -------
    dict of str to str
        Two digits for each of ``FIELD_NAMES``.

    Raises
    ------
    ValueError
        If the name does not have seven two-digit fields in their ranges.

    Notes
    -----
    The fields are those of Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of
    Emotional Speech and Song (RAVDESS)".
    """
    if not FIELD_PATTERN.fullmatch(stem):
        raise ValueError("expected seven two-digit fields joined by hyphens")
    fields = dict(zip(FIELD_NAMES, stem.split("-"), strict=True))
    for (name, value), limit in zip(fields.items(), FIELD_LIMITS, strict=True):
        if not 1 <= int(value) <= limit:
            raise ValueError(f"expected {name} 01-{limit:02d}, got {value}")
    return fields


def scan(root: Path, channel: str | None = None) -> Catalog:
    """List the clips of a raw folder.

    Parameters
    ----------
    root
        Folder with RAVDESS-named files at any depth, or with a ``clips.csv``.
    channel
        ``"speech"`` or ``"song"`` to keep only one; None keeps both. Ignored with a ``clips.csv``.

    Returns
    -------
    Catalog
        The same for any order in which the file system lists its entries.

    Raises
    ------
    InputError
        If the folder does not exist, holds no clip, or its ``clips.csv`` is wrong.
    """
    if not root.is_dir():
        raise InputError(
            f"expected a folder of raw clips at {root}, got "
            f"{'a file' if root.exists() else 'nothing'}; {where_to_put_clips(root)}"
        )
    table = root / CSV_NAME
    catalog = read_csv(table) if table.is_file() else scan_names(root, channel)
    if not catalog.clips:
        found = sum(map(len, (catalog.unpaired, catalog.unreadable, catalog.misplaced)))
        raise InputError(
            f"expected clips in {root}, got none ({found} media files set aside); "
            f"{where_to_put_clips(root)}"
        )
    return catalog


def where_to_put_clips(root: Path) -> str:
    """Remedy for a raw folder without clips."""
    return (
        f"put RAVDESS files anywhere below {root}, or a {CSV_NAME} "
        f"({','.join(CSV_COLUMNS)}) for your own data; 'make demo' needs neither"
    )


def scan_names(root: Path, channel: str | None) -> Catalog:
    """List the clips of a folder by their RAVDESS names."""
    catalog = Catalog(root)
    videos: dict[str, list[tuple[int, Path]]] = {}
    audios: dict[str, list[Path]] = {}
    for path in media_files(root):
        try:
            fields = parse_name(path.stem)
        except ValueError as error:
            catalog.unreadable.append((path, str(error)))
            continue
        if channel and fields["channel"] != CHANNELS[channel]:
            continue
        folder_actor = actor_of_folder(path, root)
        if folder_actor not in (None, int(fields["actor"])):
            reason = f"named actor {fields['actor']} but in a folder of actor {folder_actor:02d}"
            catalog.misplaced.append((path, reason))
            continue
        take = "-".join(list(fields.values())[1:])
        if path.suffix.lower() in VIDEO_SUFFIXES:
            preference = MODALITY_PREFERENCE.index(fields["modality"])
            videos.setdefault(take, []).append((preference, path))
        else:
            audios.setdefault(take, []).append(path)

    for take in sorted(videos.keys() | audios.keys()):
        sounds = audios.get(take, [])
        if take not in videos:
            catalog.unpaired += [(path, "sound without a video of the take") for path in sounds]
            continue
        (_, video), *others = sorted(videos[take])
        if not sounds and parse_name(video.stem)["modality"] == VIDEO_ONLY:
            catalog.unpaired.append((video, "video-only name without a sound file of the take"))
            continue
        modality = parse_name(video.stem)["modality"]
        copies = [path for _, path in others if parse_name(path.stem)["modality"] == modality]
        catalog.duplicates += [(path, "another copy of the take") for path in copies + sounds[1:]]
        fields = parse_name(video.stem)
        emotion = EMOTIONS[int(fields["emotion"]) - 1]
        audio = sounds[0] if sounds else None
        catalog.clips.append(Clip(take, int(fields["actor"]), emotion, video, audio))
    catalog.clips.sort(key=lambda clip: (clip.actor, clip.id))
    return catalog


def media_files(root: Path) -> Iterator[Path]:
    """Every media file below a folder, sorted; symbolic links are followed, loops are not."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            hidden = name.startswith(".")
            if not hidden and path.suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES:
                yield path


def actor_of_folder(path: Path, root: Path) -> int | None:
    """Actor that the nearest ``Actor_XX`` folder of a file names, None without one."""
    for folder in reversed(path.relative_to(root).parts[:-1]):
        if match := ACTOR_FOLDER_PATTERN.search(folder):
            return int(match.group(1))
    return None


def read_csv(table: Path) -> Catalog:
    """Read ``clips.csv``: columns ``video,audio,emotion,actor``, paths relative to its folder.

    Raises
    ------
    InputError
        If a column is missing, or a row names an unknown emotion, a wrong actor, a video twice, or
        a file that is missing or outside the folder. The message says which line.
    """
    root = table.parent
    catalog = Catalog(root)
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = set(CSV_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"expected the columns {','.join(CSV_COLUMNS)} in {table}, "
                    f"got {reader.fieldnames}; add a header line"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"expected UTF-8 comma-separated text in {table}, got: {error}; save it as CSV UTF-8"
        ) from error
    taken: set[str] = set()
    for line, row in rows:
        clip = clip_of_row(root, f"{table} line {line}", row)
        if clip.id in taken:
            raise InputError(
                f"{table} line {line}: expected each video once, got {clip.id} again; "
                "remove one of the lines"
            )
        taken.add(clip.id)
        catalog.clips.append(clip)
    catalog.clips.sort(key=lambda clip: (clip.actor, clip.id))
    return catalog


def clip_of_row(root: Path, where: str, row: dict[str, str | None]) -> Clip:
    """Make a clip of one line of ``clips.csv``."""
    video, audio, emotion, actor = ((row[name] or "").strip() for name in CSV_COLUMNS)
    if emotion.lower() not in EMOTIONS:
        raise InputError(
            f"{where}: expected an emotion out of {', '.join(EMOTIONS)}, got "
            f"{emotion!r}; rename it or leave the line out"
        )
    if not re.fullmatch(r"0*[1-9]\d{0,8}", actor[:100], re.ASCII):
        raise InputError(
            f"{where}: expected an actor number from 1, got {actor!r}; "
            "number the people of your data"
        )
    if not video:
        raise InputError(f"{where}: expected a video, got an empty field; name one")
    picture = file_inside(root, video, where)
    return Clip(
        picture.relative_to(root).as_posix(),
        int(actor),
        emotion.lower(),
        picture,
        file_inside(root, audio, where) if audio else None,
    )


def file_inside(root: Path, name: str, where: str) -> Path:
    """Path of a file that ``clips.csv`` names, without ``..`` and below the raw folder.

    Links inside the folder are followed, as everywhere in it: whoever made them meant it.

    Raises
    ------
    InputError
        If it is not a file, or outside of the folder.
    """
    place = os.path.relpath(os.path.normpath(root / name.replace("\0", "")), root)
    try:
        found = Path(place).parts[:1] != ("..",) and "\0" not in name and (root / place).is_file()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        raise InputError(
            f"{where}: expected a file inside {root}, got {name!r}; "
            "put it there or correct the path"
        )
    return root / place
