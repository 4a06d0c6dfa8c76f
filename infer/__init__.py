"""A trained model on raw files, arrays and cameras: predictions and annotated video.

>>> from infer import load
>>> model = load("data/model")                            # doctest: +SKIP
>>> result = model.predict("holiday.mp4")                 # doctest: +SKIP
>>> result.emotion, result.probability                    # doctest: +SKIP
('happy', 0.81)
"""

# Before PyAV, which 'pipeline' imports: loaded after it, OpenCV's windows hang on Linux, because
# both bring X libraries of their own (PyAV issue 1050).
import cv2  # noqa: F401

from infer.prediction.results import Result, WindowPrediction
from infer.prediction.stream import Stream
from infer.predictor import Predictor, load
from infer.reading.tracks import Track

__all__ = ["Predictor", "Result", "Stream", "Track", "WindowPrediction", "load"]
