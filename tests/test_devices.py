"""A training over two devices, as two GPUs would have it."""

import json
import subprocess
import sys

import pytest

TRAIN = """
import json, sys
from pathlib import Path
from pipeline.cache import index
from train import runtime
runtime.start_tensorflow(0)
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from train import fit
from train.settings import Settings
from train.studies import protocol
names = ["CPU:0", "CPU:1"][: int(sys.argv[3])]
strategy = tf.distribute.MirroredStrategy(names) if len(names) > 1 else None
found = index.read_index(Path(sys.argv[1]))
settings = Settings(audio_epochs=3, video_epochs=1, fusion_epochs=1, refit_epochs=1, batch_size=6,
                    dropout=0.0, without=("vocal_tract", "speaker", "view"))
fit.fit(found, Path(sys.argv[2]), protocol.split_actors(found.actors), settings,
        progress=False, strategy=strategy)
"""


@pytest.mark.slow
def test_two_devices_learn_as_one_does(tmp_path, small_cache):
    losses = []
    for devices in (1, 2):
        model = tmp_path / str(devices)
        command = [sys.executable, "-c", TRAIN, str(small_cache.folder), str(model), str(devices)]
        subprocess.run(command, check=True, capture_output=True)
        lines = (model / "report" / "learning_curves.csv").read_text().splitlines()
        head = lines[0].split(",")
        losses.append([float(line.split(",")[head.index("loss")]) for line in lines[1:]])
        assert json.loads((model / "model.json").read_text())["metrics"]["clips"] == 4
    one, two = losses
    # Batches are normalised, and gradients clipped, on each device by itself: of a kind, not equal.
    assert one[0] == pytest.approx(two[0], rel=0.25)
    assert two[2] < two[0]
