"""Several recordings in turn: one bar, and a file that cannot be read does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infer import explain
from infer.output import annotate, formats, overlay
from infer.prediction.model import Model
from infer.prediction.predict import Analysis, Options
from infer.prediction.reference import References, reference_of
from infer.prediction.results import Result
from infer.prediction.smooth import named
from infer.reading.recording import open_recording
from infer.stop import Stop
from pipeline import atomic
from pipeline.console import bar
from pipeline.corpora.scan import MEDIA_SUFFIXES
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS

VIDEO, OVERLAY, NONE = "video", "overlay", "none"
"""What is written besides the formats: the annotated video, a copy with subtitles, nothing."""

BAR_DELAY_SECONDS = 1.0

SUMMARY_NAME = "summary.csv"

LONGEST_NAME_BYTES = 160
"""Of the 255 that a file's name may have: suffixes and temporary names are longer."""


@dataclass(frozen=True)
class Job:
    """One recording and what is made of it.

    Parameters
    ----------
    path, sound
        The recording; a file with its sound, or None.
    reference
        A recording of the same person, for a model with a speaker reference.
    stem
        Path of what is written, without suffixes.
    """

    path: Path
    sound: Path | None
    stem: Path
    reference: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """What is written of each recording."""

    kind: str = VIDEO
    formats: tuple[str, ...] = formats.DEFAULT_FORMATS
    explain: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a job: a result and its files, or the reason why there is none."""

    job: Job
    result: Result | None
    files: tuple[Path, ...]
    error: str = ""

    def record(self) -> dict:
        """Return a row of the summary."""
        result = self.result
        row = {"file": printable(self.job.path), "error": printable(self.error)}
        if result is None:
            names = ("emotion", "probability", "basis", "voice", "face", "faces", "windows")
            return row | dict.fromkeys((*names, "duration_seconds", "notes"), "")
        return row | {
            "emotion": result.emotion,
            "probability": round(result.probability, 4),
            "basis": result.basis,
            "voice": "" if result.voice is None else named(result.voice),
            "face": "" if result.face is None else named(result.face),
            "faces": len(result.tracks),
            "windows": len(result.windows),
            "duration_seconds": round(result.duration_seconds, 3),
            "notes": "; ".join(result.notes),
        }


def jobs_of(
    paths: Sequence[Path], sound: Path | None, out: Path, reference: Path | None = None
) -> list[Job]:
    """Say what is to be read and where it goes; a folder stands for the recordings below it.

    Raises
    ------
    InputError
        If a folder has no recordings, or sound was named for several.
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in MEDIA_SUFFIXES
                and file.is_file()
                # What an earlier run left below the folder is no recording.
                and (out.resolve() == path.resolve() or out.resolve() not in file.resolve().parents)
            ]
            if not inside:
                raise InputError(f"expected recordings in {path}, got none; name another folder")
            found += [(file, file.relative_to(path).with_suffix("")) for file in inside]
        else:
            found.append((path, Path(path.stem)))
    if sound is not None and len(found) > 1:
        raise InputError(
            f"expected one recording for the sound of {sound}, got {len(found)}; name one"
        )
    jobs: list[Job] = []
    # A recording that is called "summary" leaves that name to the summary.
    taken = {out / Path(SUMMARY_NAME).stem} if len(found) > 1 else set()
    for path, whole in found:
        name = whole.with_name(shortened(whole.name))
        stem, number = out / name, 2
        while stem in taken:
            stem, number = out / name.with_name(f"{name.name}-{number}"), number + 1
        taken.add(stem)
        jobs.append(Job(path, sound, stem, reference))
    return jobs


def shortened(name: str) -> str:
    """Cut a name that is longer than ``LONGEST_NAME_BYTES``."""
    held = os.fsencode(name)
    if len(held) <= LONGEST_NAME_BYTES:
        return name
    return held[:LONGEST_NAME_BYTES].decode("utf-8", "ignore")


def run(
    model: Model,
    jobs: Sequence[Job],
    options: Options,
    outputs: Outputs,
    stop: Stop,
) -> Iterator[Done]:
    """Do the jobs in turn, and write a summary of several.

    Parameters
    ----------
    model
        Answers.
    jobs
        What to read.
    options, outputs
        How, and what to write.
    stop
        Asked all the time; what is made then is finished up to there.

    Yields
    ------
    Done
        One for each job that was begun; errors of a file are in it.
    """
    finished: list[Done] = []
    several = len(jobs) > 1
    read = {path for job in jobs for path in (job.path, job.sound, job.reference) if path}
    inputs = {identity(path) for path in read if path.exists()}
    # Of one recording the length is not known yet.
    unit, total = ("file", float(len(jobs))) if several else ("s", 1.0)
    shape = "{l_bar}{bar}| {n:.1f}/{total:.1f} [{elapsed}<{remaining}]"
    # After a moment only: what is refused at once is one line.
    looks = {"desc": "infer", "unit": unit, "bar_format": shape, "delay": BAR_DELAY_SECONDS}
    with bar(total=total, **looks) as shown:
        for number, job in enumerate(jobs):

            def tell(seconds: float, length: float, number: int = number) -> None:
                if several:
                    shown.n = number + min(1.0, seconds / max(length, 1e-9))
                else:
                    shown.total, shown.n = max(length, seconds), seconds
                shown.update(0)

            try:
                refuse_input(target_of(job, outputs.kind), job, inputs)
                result, files = work(model, job, options, outputs, stop, tell)
                done = Done(job, result, files)
            except InputError as error:
                done = Done(job, None, (), str(error))
            finished.append(done)
            if several:
                text = formats.table([each.record() for each in finished])
                folder = common(jobs)
                folder.mkdir(parents=True, exist_ok=True)
                atomic.write_durably(folder / SUMMARY_NAME, text.encode())
            yield done
            if stop.asked:
                return


def common(jobs: Sequence[Job]) -> Path:
    """Return the folder that all results lie below."""
    first, *others = [job.stem.parent for job in jobs]
    return next(
        folder
        for folder in (first, *first.parents)
        if all(other == folder or folder in other.parents for other in others)
    )


def work(
    model: Model,
    job: Job,
    options: Options,
    outputs: Outputs,
    stop: Stop,
    tell: Callable[[float, float], None],
) -> tuple[Result, tuple[Path, ...]]:
    """Read one recording, and write what is asked for.

    Raises
    ------
    InputError
        If it cannot be read; nothing is written then.
    """
    taken = open_recording(job.path, job.sound, model.spec)
    known = reference_of(model, job.path, job.sound, job.reference)
    kind = outputs.kind
    notes: list[str] = []
    if kind == OVERLAY and taken.video is None:
        kind = NONE
        notes.append("no video to lay labels over: none is written")

    def progress(seconds: float) -> None:
        tell(seconds, taken.duration_seconds)

    files: list[Path] = []
    target = target_of(job, kind)
    job.stem.parent.mkdir(parents=True, exist_ok=True)
    if kind == VIDEO:
        analysis = annotate.annotate(model, taken, target, options, stop, progress, known)
        files.append(target)
    else:
        analysis = Analysis(model, taken, options, known)
        for made in analysis:
            stop.seconds = made[-1].end_seconds
            progress(stop.seconds)
            if stop.asked:
                break
    if stop.asked:
        notes.append(f"stopped at {stop.seconds:.1f} s of {taken.duration_seconds:.1f} s")
    else:
        progress(taken.duration_seconds)
    result = analysis.result(notes)
    if kind == OVERLAY and taken.video is not None:
        overlay.write_overlay(result, taken.video, target, job.sound)
        files.append(target)
    files += formats.write(result, job.stem, outputs.formats)
    if outputs.explain:
        files.append(explained(model, job, result, known, every_frame=kind == VIDEO))
    return result, tuple(files)


def explained(
    model: Model, job: Job, result: Result, known: References | None, every_frame: bool = False
) -> Path:
    """Draw where the model looks in the window that speaks most for the answer.

    ``every_frame`` says that every frame was decoded for the result, as an annotated video needs.
    """
    label = int(result.probabilities.argmax())
    window = max(result.main, key=lambda window: float(window.probabilities[label]))
    again = open_recording(job.path, job.sound, model.spec)
    tensors = explain.window_tensors(model, again, window, known, every_frame)
    network = explain.load_network(model.folder)
    title = f"{result.file} from {window.start_seconds:.1f} s: {EMOTIONS[label]}"
    path = job.stem.with_name(f"{job.stem.name}-explain.png")
    found = explain.maps(network, tensors, label)
    atomic.write_durably(path, explain.png_bytes(tensors, found, title))
    return path


def target_of(job: Job, kind: str) -> Path:
    """Return the path of the video that is written of a job."""
    return job.stem.with_name(f"{job.stem.name}{'.mkv' if kind == OVERLAY else '.mp4'}")


def identity(path: Path) -> tuple[int, int]:
    """Return what two paths of one file have in common."""
    found = path.stat()
    return found.st_dev, found.st_ino


def refuse_input(target: Path, job: Job, inputs: Collection[tuple[int, int]]) -> None:
    """Raise where the output of a job would replace a file that any job reads."""
    if target.exists() and identity(target) in inputs:
        raise InputError(
            f"expected another output of {job.path} than the input {target}, got the same; "
            "name another folder with --out"
        )
