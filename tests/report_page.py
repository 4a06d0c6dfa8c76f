"""A cache, a model's files and an audit that a page can be made of, without any training."""

import dataclasses
import json
import shutil

import numpy as np
from conftest import tone, write_rows, write_video

from pipeline.corpora import sources
from pipeline.corpora.audit import KINDS
from pipeline.spec import EMOTIONS
from train import __main__ as cli
from train.data import rows
from train.evaluation import metrics, report, robustness
from train.heads import HEADS

NASTY = "<b>x & 'y'"
"""A name that would be an element, if it were not escaped."""

LOG = """stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate
audio,1,2.0,0.2,2.1,0.1,0.001
audio,2,1.5,0.4,1.9,0.2,0.001
refit-audio,1,1.2,0.5,,,0.0001
"""


def write_everything(root, spec):
    """Write a raw folder, its cache, a model and an audit; actor 3's first clip has a nasty name.

    Returns
    -------
    dict
        Places by the name of the option of ``train report``.
    """
    raw = root / "raw"
    raw.mkdir(parents=True)
    video = write_video(raw / f"{NASTY}.mp4", 1.0, size=(96, 128), sound=tone(1.0))
    nasty = sources.describe(video, raw)
    clips = [(actor, name, "av") for actor in (1, 2, 3, 4) for name in EMOTIONS[:5]]
    clips.append((4, "sad", "av"))

    def change(number, clip):
        if number == 10:
            return dataclasses.replace(clip, clip=NASTY, sources=(nasty,))
        if number == 20:
            lost = {"rows": (), "reason": f"expected frames, got {NASTY}"}
            return dataclasses.replace(clip, clip="lost", has_audio=False, has_video=False, **lost)
        return clip

    index = write_rows(root / "cache", spec, clips, size=3, change=change)
    named = json.loads((index.folder / "index.json").read_text())
    assert named["root"] == ""
    model = write_model_files(root / "model", index)
    audit = root / "audit.json"
    finding = {"kind": "silent", "names": [NASTY], "detail": "peak 0.000001"}
    content = {"raw": "", "clips": 21, "actor_names": {"3": NASTY}, "kinds": KINDS}
    audit.write_text(json.dumps(content | {"findings": [finding], "facts": []}))
    return {"cache": root / "cache", "model": model, "audit": audit, "raw": raw}


def write_model_files(folder, index):
    """Write what training leaves behind, but for the network: it knows all but actor 3's clips."""
    table = rows.select_rows(index, (3, 4))
    sure = np.eye(len(EMOTIONS), dtype=np.float32)
    wrong = (table.label + 1) % len(EMOTIONS)
    answer = np.where(table.actor == 3, wrong, table.label)
    # The nasty clip is the worst of all.
    share = np.where(table.clip == NASTY, 0.95, 0.8).astype(np.float32)[:, np.newaxis]
    probabilities = dict.fromkeys(HEADS, share * sure[answer] + (1 - share) / len(EMOTIONS))
    judged = metrics.metrics(table, probabilities) | {"stamp": None}
    report.write_report(folder / "report", table, probabilities, judged)
    (folder / "log.csv").write_text(LOG)
    report.write_learning_curves(folder / "report", folder / "log.csv")
    averages = {head: {"war": 0.5, "uar": 0.25} for head in HEADS}
    measured = {"clips": 9, "left_out": [], "conditions": {"untouched": averages}}
    robustness.write(folder / "report", measured)
    shutil.copytree(folder / "report", folder / "report-cache-actors-3-4")
    described = {
        "spec": json.loads(index.spec.to_json()),
        "spec_digest": index.spec.digest,
        "actors": {"train": [1], "validation": [2], "test": [3, 4]},
        "settings": {"seed": 7},
        "metrics": judged,
        "learned": HEADS,
        "corpus": NASTY,
        "libraries": {"keras": "9.9"},
        "git_commit": "abc",
        "cache": index.fingerprint,
        "seen": ["a", "b"],
    }
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def write_page(out, **places):
    """Run ``train report``; return its exit code."""
    words = ["report", "--out", str(out)]
    for name, place in places.items():
        words += [f"--{name}", str(place)]
    arguments = cli.parser().parse_args(words)
    return arguments.run(arguments)
