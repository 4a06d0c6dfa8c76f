"""Write the made-up corpus: who says what how, one mp4 and one wav a take."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import joblib
import numpy as np
import soundfile

from pipeline import atomic, backends
from pipeline.console import bar as progress_bar
from pipeline.corpora.corpus import TITLE_NAME
from pipeline.errors import InputError
from pipeline.media import encode
from pipeline.sample import acting, expression, face, head, phones, voice
from pipeline.spec import EMOTIONS

FRAMES_PER_SECOND = 25


class Take(NamedTuple):
    """One recording; numbers count from 1, as in RAVDESS' file names."""

    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    def name(self, modality: int) -> str:
        """Return the file's stem; `modality` is 1 for video with sound, 3 for sound alone."""
        return "-".join(f"{field:02d}" for field in (modality, 1, *self))


class Actor(NamedTuple):
    """All that an actor keeps from take to take."""

    speaker: voice.Speaker
    look: head.Look
    voice_habits: np.ndarray
    face_habits: np.ndarray
    face_expressiveness: float
    tilt_degrees: float


def takes(actors: int, repetitions: int) -> list[Take]:
    """Return every take in the order of actors; neutral has no strong intensity."""
    return [
        Take(emotion, intensity, statement, repetition, actor)
        for actor in range(1, actors + 1)
        for emotion in range(1, len(EMOTIONS) + 1)
        for intensity in (1, 2)
        if not (EMOTIONS[emotion - 1] == "neutral" and intensity == 2)
        for statement in range(1, len(phones.STATEMENTS) + 1)
        for repetition in range(1, repetitions + 1)
    ]


def _generator(*identity: object) -> np.random.Generator:
    """Seed by who or what the randomness is for, so that the order of work does not matter."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def cast_actor(number: int, seed: int) -> Actor:
    """Return the actor of that number, male if odd."""
    female = number % 2 == 0
    rng = _generator("actor", number, seed)
    return Actor(
        speaker=voice.draw_speaker(female, rng),
        look=head.draw_look(female, rng),
        voice_habits=acting.draw_habits(rng, len(acting.Manner._fields)),
        face_habits=acting.draw_habits(rng, len(acting.ActionUnits._fields)),
        face_expressiveness=rng.uniform(0.75, 1.15),
        tilt_degrees=rng.normal(0, 1.0),
    )


def record(
    take: Take, seed: int
) -> tuple[np.ndarray, np.ndarray, Iterator[tuple[float, np.ndarray]]]:
    """Perform a take.

    Returns
    -------
    waveform
        float32 (samples,), 48 kHz.
    units
        Action units of every frame, (frames, units) in [0, 1]; what the picture shows.
    frames
        Pairs of seconds and RGB picture uint8 (360, 480, 3), drawn as they are asked for.
    """
    actor = cast_actor(take.actor, seed)
    rng = _generator("take", take.name(1), seed)
    emotion = EMOTIONS[take.emotion - 1]
    manner = acting.perform_voice(
        emotion, take.intensity, actor.speaker.expressiveness, actor.voice_habits, rng
    )
    apex = acting.perform_face(
        emotion, take.intensity, actor.face_expressiveness, actor.face_habits, rng
    )
    said = voice.speak(actor.speaker, manner, phones.STATEMENTS[take.statement - 1], rng)
    seconds = len(said.waveform) / voice.SAMPLE_RATE_HZ
    times = np.arange(int(seconds * FRAMES_PER_SECOND)) / FRAMES_PER_SECOND
    loudness = voice.loudness(said.waveform, times)
    shown = expression.course(times, said.start_seconds, said.end_seconds, rng)
    units = expression.moving_units(apex, shown, loudness, rng)
    poses = expression.poses(loudness, actor.tilt_degrees, rng)
    eyes = zip(expression.blinks(times, rng), expression.gazes(len(times), rng), strict=True)

    def frames() -> Iterator[tuple[float, np.ndarray]]:
        portrait = head.paint_portrait(actor.look)
        for time, row, (blink, gaze), pose in zip(times, units, eyes, poses, strict=True):
            now = acting.ActionUnits(*row)
            yield time, face.draw_frame(portrait, actor.look, now, blink, gaze, pose)

    return said.waveform, units, frames()


def take_paths(out: Path, take: Take) -> tuple[Path, Path]:
    """Return where the video and the audio of a take go."""
    folder = f"Actor_{take.actor:02d}"
    video = out / "videos" / folder / f"{take.name(1)}.mp4"
    return video, out / "audios" / folder / f"{take.name(3)}.wav"


def write_take(out: Path, take: Take, seed: int) -> None:
    """Record a take into its two files, each complete or absent."""
    # One thread a process: the processes already fill the machine.
    cv2.setNumThreads(1)
    video, audio = take_paths(out, take)
    for path in (video, audio):
        path.parent.mkdir(parents=True, exist_ok=True)
    waveform, _, frames = record(take, seed)
    encode.write_mp4(video, frames, waveform, voice.SAMPLE_RATE_HZ, preset="ultrafast")
    _write_wav(audio, waveform)


def _write_wav(path: Path, waveform: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Rounded here, so that the bytes do not hang on how libsndfile converts floats.
    samples = np.round(waveform * 32767).astype(np.int16)
    try:
        soundfile.write(temporary, samples, voice.SAMPLE_RATE_HZ, "PCM_16", format="WAV")
        atomic.replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


TITLE = "the sample corpus: drawn faces, made-up voices"


def write_corpus(
    out: Path,
    *,
    actors: int = 8,
    repetitions: int = 1,
    seed: int = 0,
    jobs: int = -1,
    progress: bool = True,
) -> list[Path]:
    """Write the whole corpus; any number of jobs writes the same bytes.

    Takes that are there are kept where ``corpus.txt`` names the same seed and the same code.

    Parameters
    ----------
    out
        Receives `videos/Actor_XX/*.mp4`, `audios/Actor_XX/*.wav` and `corpus.txt`; files of the
        same names made otherwise are replaced.
    actors
        How many actors, 1 ... 99; odd ones are male.
    repetitions
        Times each sentence is said, 1 ... 99. One repetition is 30 clips an actor.
    seed
        Another seed is another corpus.
    jobs
        Processes, -1 for one a core.
    progress
        Whether to show a bar.

    Returns
    -------
    list[Path]
        All media files of the corpus, sorted.

    Raises
    ------
    ValueError
        When a count is not in 1 ... 99.
    InputError
        When other recordings have the names of its files.
    """
    for name, count in (("actors", actors), ("repetitions", repetitions)):
        if not 1 <= count <= 99:
            raise ValueError(f"{name} must be 1 ... 99 to fit the file names, got {count}")
    out = Path(out)
    media = {take: take_paths(out, take) for take in takes(actors, repetitions)}
    content = f"{TITLE}\nseed {seed}, made by code {_code_digest()}\n".encode()
    named = out / TITLE_NAME
    found = named.read_bytes() if named.is_file() else b""
    there = [path for paths in media.values() for path in paths if path.exists()]
    if there and not found.startswith(f"{TITLE}\n".encode()):
        raise InputError(
            f"expected no other recordings where the sample corpus goes, got {there[0]}; "
            "name another folder"
        )
    if found == content:
        missing = [take for take, paths in media.items() if not all(map(Path.is_file, paths))]
    else:
        missing = list(media)
        # Before the file that claims them: an interruption leaves none that passes for a new one.
        for path in there:
            path.unlink()
        out.mkdir(parents=True, exist_ok=True)
        atomic.write_durably(named, content)
    processes = joblib.Parallel(
        n_jobs=jobs,
        backend="loky",
        return_as="generator_unordered",
        **backends.worker_options(),
    )
    if missing:
        results = processes(joblib.delayed(write_take)(out, take, seed) for take in missing)
        bar = progress_bar(
            results, total=len(missing), desc="sample", unit="clip", disable=not progress
        )
        for _ in bar:
            pass
    return sorted(itertools.chain.from_iterable(media.values()))


@functools.cache
def _code_digest() -> str:
    """Say which code draws and speaks: SHA-256 of its sources, shortened."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
