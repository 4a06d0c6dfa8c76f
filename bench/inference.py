"""Raw video to annotated video, against real time and against the bare start of TensorFlow."""

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
from infer import annotate, predict, recording, results
from pipeline.corpora import scan
from train import artefact

ROUNDS = 3
BARE_START = "import tensorflow, keras, sys; keras.models.load_model(sys.argv[1], compile=False)"
FIRST_PREDICTION = """
import sys
from pathlib import Path
from train import runtime
runtime.start_tensorflow()
from infer import predict, recording
from train import artefact
trained = artefact.load(Path(sys.argv[1]))
take = recording.open_recording(Path(sys.argv[2]), None, trained.spec)
predict.predict(take, trained).at(0.0)
"""


def whole_command(video: Path, sound: Path, model: Path, out: Path) -> None:
    """Do what ``make infer`` does after its imports."""
    trained = artefact.load(model)
    take = recording.open_recording(video, sound, trained.spec)
    prediction = predict.predict(take, trained)
    annotate.render(take, prediction, out / "x.mp4", trained.spec, progress=False)
    results.write_predictions(prediction, take, out / "x")


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
    video = found.clips[0].video
    minute, sound = media.long_recording(folder)
    length = len(found.clips) * media.FRAMES / media.FRAME_RATE
    with tempfile.TemporaryDirectory() as out:
        work = partial(whole_command, minute, sound, model, Path(out))
        work()
        took = medians(ROUNDS, ours=work, limit=partial(transcode, minute, Path(out)))
    yield {
        "what": f"inference, {length:.0f} s of 1280x720, video written: s",
        "ours": took["ours"],
        "against": "length of the video",
        "theirs": length,
        "ratio": length / took["ours"],
        "target": ">= 8",
    }
    yield {
        "what": "decoding and encoding that video, no more: s",
        "ours": took["limit"],
        "against": "length of the video",
        "theirs": length,
        "ratio": length / took["limit"],
        "target": "",
    }
    took = medians(
        ROUNDS,
        bare=partial(start, BARE_START, model / artefact.MODEL_NAME),
        ours=partial(start, FIRST_PREDICTION, model, video),
    )
    yield {
        "what": "start to first prediction: s",
        "ours": took["ours"],
        "against": "import tensorflow + load_model",
        "theirs": took["bare"],
        "ratio": took["ours"] / took["bare"],
        "target": "<= 1.5",
    }
