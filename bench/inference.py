"""Recordings to predictions and to annotated video, against real time and against what is least."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av

from bench import media
from bench.timing import medians
from infer import batch
from infer.output import annotate, overlay
from infer.prediction.model import Model, open_model
from infer.prediction.predict import Analysis, Options
from infer.reading.recording import open_recording
from infer.stop import Stop
from pipeline.corpora import scan
from train.description import KERAS_NAME

ROUNDS = 3
BARE_START = """
import sys, tensorflow, keras, train.models
keras.models.load_model(sys.argv[1], compile=False)
"""
FIRST_PREDICTION = """
import sys
from infer import load
print(next(load(sys.argv[1]).windows(sys.argv[2]))[0].emotion)
"""


def predict(video: Path, model: Model) -> Analysis:
    """Do what ``make infer NO_VIDEO=1`` does after its imports, but for the files it writes."""
    analysis = Analysis(model, open_recording(video, None, model.spec), Options())
    for _ in analysis:
        pass
    return analysis


def draw(video: Path, model: Model, out: Path) -> None:
    """Do what ``make infer`` does after its imports."""
    job = batch.Job(video, None, out / "x")
    batch.work(model, job, Options(), batch.Outputs(), Stop(), lambda seconds, length: None)


def transcode(video: Path, out: Path) -> None:
    """Decode a video and encode it as the annotated one is: what no inference can do without."""
    with av.open(str(video)) as source, av.open(str(out / "y.mp4"), "w") as target:
        shown = source.streams.video[0]
        shown.thread_type = "AUTO"
        options = {"preset": annotate.PRESET, "crf": str(annotate.CRF), "mbtree": "0"}
        stream = target.add_stream("libx264", rate=shown.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in source.decode(shown):
            frame.pict_type = 0
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def start(code: str, *arguments: Path) -> None:
    """Run a piece of Python in a fresh process."""
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True
    )


def measure(folder: Path, model: Path) -> Iterator[dict]:
    """Yield one result a claim; needs a trained model."""
    found = scan.scan(media.high_definition_clips(folder))
    clip = found.clips[0].video
    minute = media.with_sound(*media.long_recording(folder))
    length = len(found.clips) * media.FRAMES / media.FRAME_RATE
    opened = open_model(model)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        result = predict(minute, opened).result()
        took = medians(
            ROUNDS,
            predicted=partial(predict, minute, opened),
            drawn=partial(draw, minute, opened, out),
            limit=partial(transcode, minute, out),
            overlaid=partial(overlay.write_overlay, result, minute, out / "z.mkv"),
        )
    yield {
        "what": f"predictions alone, {length:.0f} s of 1280x720: s",
        "ours": took["predicted"],
        "against": "length of the video",
        "theirs": length,
        "ratio": length / took["predicted"],
        "target": ">= 25",
    }
    yield {
        "what": "annotated video of it: s",
        "ours": took["drawn"],
        "against": "decoding and encoding it, no more",
        "theirs": took["limit"],
        "ratio": took["limit"] / took["drawn"],
        "target": ">= 0.85",
    }
    yield {
        "what": "labels laid over it, nothing encoded: s",
        "ours": took["overlaid"],
        "against": "annotated video",
        "theirs": took["drawn"],
        "ratio": took["overlaid"] / took["drawn"],
        "target": "<= 0.1",
    }
    took = medians(
        ROUNDS,
        bare=partial(start, BARE_START, model / KERAS_NAME),
        ours=partial(start, FIRST_PREDICTION, model, clip),
    )
    yield {
        "what": "start to first prediction: s",
        "ours": took["ours"],
        "against": "import tensorflow + load_model",
        "theirs": took["bare"],
        "ratio": took["ours"] / took["bare"],
        "target": "<= 3 s",
    }
