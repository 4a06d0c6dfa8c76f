"""The page itself: what it is made of, and what happens on it."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from infer import batch
from infer.app import about, answer
from infer.output import annotate, formats
from infer.prediction.reference import reference_of
from infer.prediction.results import Result
from infer.predictor import Predictor
from infer.reading.recording import open_recording
from pipeline.errors import InputError
from pipeline.media import encode
from pipeline.sample import corpus, voice
from pipeline.spec import EMOTIONS

KEPT_SECONDS = 6 * 3600
"""How long uploads and results are kept; all go when the page ends."""

GONE = "expected a recording, got one that was removed since; drop it again"

EXAMPLE_ACTOR, EXAMPLE_SEED = 8, 0
EXAMPLES = ("happy", "sad", "angry")
DOWNLOADS = ("csv", "json", "vtt")

TITLE = "Emotions in voice and face"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Parameters
    ----------
    seconds
        Longest recording.
    megabytes
        Largest file.
    """

    seconds: float = 600.0
    megabytes: float = 500

    @property
    def bytes(self) -> int:
        """Of the largest file."""
        return round(self.megabytes * 1_000_000)


@dataclass(frozen=True)
class Answered:
    """What one visitor looks at.

    Parameters
    ----------
    folder
        Of the files that were made for it; removed with it.
    path
        The recording.
    reference
        A neutral recording of the same person, for models that compare with one.
    result
        What was said of it.
    """

    folder: Path
    path: Path
    reference: Path | None
    result: Result


def forget(answered: Answered | None) -> None:
    """Remove what was made for a visitor."""
    if answered is not None:
        shutil.rmtree(answered.folder, ignore_errors=True)


def draw_example(emotion: str, folder: Path) -> Path:
    """Return a video of a drawn face with a synthetic voice, made when it is first asked for."""
    path = folder / f"{emotion}, drawn.mp4"
    if not path.exists():
        take = corpus.Take(EMOTIONS.index(emotion) + 1, 2, 1, 1, EXAMPLE_ACTOR)
        waveform, _, frames = corpus.record(take, EXAMPLE_SEED)
        encode.write_mp4(path, frames, waveform, voice.SAMPLE_RATE_HZ, preset="superfast")
    return path


def build(predictor: Predictor, work: Path, limits: Limits) -> gr.Blocks:
    """Make the page.

    Parameters
    ----------
    predictor
        Answers.
    work
        Folder of all files that are made for visitors.
    limits
        What is taken.
    """
    examples = work / "examples"
    examples.mkdir(exist_ok=True)
    heads = ["emotion", *about.HEAD_NAMES.values()]
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 6, KEPT_SECONDS)
    ) as page:
        answered = gr.State(None, time_to_live=KEPT_SECONDS, delete_callback=forget)
        gr.Markdown(f"# {TITLE}")
        with gr.Tabs():
            with gr.Tab("File"):
                dropped = gr.File(
                    label=f"at most {limits.seconds / 60:g} minutes, {limits.megabytes:g} MB",
                    height=150,
                    elem_id="file",
                )
            with gr.Tab("Record"):
                recorded = gr.Video(
                    sources=["webcam"],
                    include_audio=True,
                    webcam_options=gr.WebcamOptions(mirror=False),
                    label="camera and microphone",
                    height=320,
                    elem_id="camera",
                )
            with gr.Tab("Example"), gr.Row():
                buttons = {
                    name: gr.Button(f"{name} (drawn face)", elem_id=f"example-{name}")
                    for name in EXAMPLES
                }
        reference = gr.File(
            label="a neutral recording of the same person, which the model compares with",
            height=120,
            visible=predictor.model.speaker_reference == "neutral",
            elem_id="reference",
        )
        waiting = gr.HTML("", elem_id="waiting")
        message = gr.Markdown(elem_id="message", visible=False)
        player = gr.HTML(
            None,
            html_template=(HERE / "player.html").read_text(encoding="utf-8"),
            css_template=(HERE / "player.css").read_text(encoding="utf-8"),
            js_on_load=(HERE / "player.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="player",
            most_bytes=limits.bytes,
        )
        with gr.Row(visible=False, elem_id="downloads") as downloads:
            files = [
                gr.DownloadButton(name.upper(), size="sm", min_width=80, elem_id=f"get-{name}")
                for name in DOWNLOADS
            ]
            render = gr.Button("Make annotated mp4", size="sm", min_width=80, elem_id="render")
            video = gr.DownloadButton(
                "Annotated mp4", size="sm", min_width=80, visible=False, elem_id="get-mp4"
            )
            explain = gr.Button(
                "Where the model looks",
                size="sm",
                min_width=80,
                visible=importlib.util.find_spec("tensorflow") is not None,
                elem_id="explain",
            )
        working = gr.HTML("", elem_id="working")
        explained = gr.Image(
            visible=False,
            show_label=False,
            container=False,
            buttons=["download"],
            elem_id="explained",
        )
        gr.Markdown(about.summary(predictor.model), elem_id="about")
        with gr.Accordion("Recall of each emotion", open=False):
            gr.Markdown(markdown_table(heads, about.table(predictor.model)))

        shown = [
            dropped,
            recorded,
            message,
            player,
            answered,
            downloads,
            *files,
            render,
            video,
            explained,
        ]

        def ask(path: str | None, neutral: str | None, before: Answered | None) -> Iterator[dict]:
            if path is None:
                return
            taken, folder = Path(path), Path(tempfile.mkdtemp(dir=work))
            own = None if neutral is None else Path(neutral)
            # An empty field takes the next file.
            yield {
                dropped: None,
                recorded: None,
                message: gr.Markdown(visible=False),
                downloads: gr.Row(visible=False),
                explained: gr.Image(value=None, visible=False),
            }
            try:
                for step in answer.steps(predictor, taken, folder, limits.seconds, own):
                    made: dict[Any, Any] = {player: step.view}
                    if step.result is not None:
                        made |= finished(Answered(folder, taken, own, step.result))
                    yield made
                forget(before)
            except BaseException as error:
                # A visitor who leaves ends the generator.
                shutil.rmtree(folder, ignore_errors=True)
                if not isinstance(error, InputError):
                    raise
                yield {
                    player: None,
                    message: gr.Markdown(answer.plain(error, taken, own), visible=True),
                }

        def finished(now: Answered) -> dict:
            stem = now.folder / now.path.stem
            written = formats.write(now.result, stem, DOWNLOADS)
            return {
                answered: now,
                downloads: gr.Row(visible=True),
                **{button: str(file) for button, file in zip(files, written, strict=True)},
                render: gr.Button(visible=True),
                video: gr.DownloadButton(value=None, visible=False),
            }

        def make_video(now: Answered | None, progress: Any = gr.Progress()) -> dict:  # noqa: B008
            if now is None:
                return {message: gr.Markdown(GONE, visible=True)}
            path = now.folder / f"{now.path.stem}-annotated.mp4"
            length = max(now.result.duration_seconds, 1e-9)

            def tell(seconds: float) -> None:
                progress(min(1.0, seconds / length), desc="drawing")

            try:
                recording = open_recording(now.path, None, predictor.model.spec)
                annotate.redraw(now.result, recording, path, predictor.model.spec, tell)
            except InputError as error:
                return {
                    message: gr.Markdown(answer.plain(error, now.path, now.reference), visible=True)
                }
            return {
                render: gr.Button(visible=False),
                video: gr.DownloadButton(value=str(path), visible=True),
            }

        def look(now: Answered | None) -> dict:
            if now is None:
                return {message: gr.Markdown(GONE, visible=True)}
            model, stem = predictor.model, now.folder / now.path.stem
            job = batch.Job(now.path, None, stem, now.reference)
            try:
                known = reference_of(model, job.path, None, job.reference)
                path = batch.explained(model, job, now.result, known)
            except InputError as error:
                return {
                    message: gr.Markdown(answer.plain(error, now.path, now.reference), visible=True)
                }
            return {explained: gr.Image(str(path), visible=True)}

        def example(name: str) -> Callable[[str | None, Answered | None], Iterator[dict]]:
            def ask_about_example(neutral: str | None, before: Answered | None) -> Iterator[dict]:
                yield from ask(str(draw_example(name, examples)), neutral, before)

            return ask_about_example

        one: dict[str, Any] = {
            "outputs": shown,
            "concurrency_limit": 1,
            "concurrency_id": "model",
            "api_visibility": "private",
        }
        # Elsewhere it would cover the player.
        asking, making = one | {"show_progress_on": waiting}, one | {"show_progress_on": working}
        dropped.upload(ask, [dropped, reference, answered], **asking)
        recorded.stop_recording(ask, [recorded, reference, answered], **asking)
        for name, button in buttons.items():
            button.click(example(name), [reference, answered], **asking)
        render.click(make_video, [answered], **making)
        explain.click(look, [answered], **making)
    return page


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    """Write a table as Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
