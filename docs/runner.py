"""Run an export without TensorFlow: ``python -m docs.runner MODEL.onnx|.tflite VIDEO``."""

import json
import sys
from pathlib import Path

from pipeline.corpora.clip import Clip
from pipeline.features import extract
from pipeline.spec import FeatureSpec


def main(model: str, video: str) -> None:
    """Print what the model says of the window that training would cut from a video."""
    if model.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        held = session.get_modelmeta().custom_metadata_map
        described = {name: json.loads(held[name]) for name in ("spec", "emotions")}
    else:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=model).get_signature_runner("serve")
        described = json.loads(Path(f"{model}.json").read_text())
    spec = FeatureSpec.from_json(json.dumps(described["spec"]))
    row = extract.extract_clip(Clip("clip", 1, "neutral", Path(video)), spec)[0].features
    tensors = {"mfcc": row.mfcc[None], "frames": row.frames[None]}
    if model.endswith(".onnx"):
        fused = session.run(["fused"], tensors)[0][0]
    else:
        fused = runner(**tensors)["fused"][0]
    for name, probability in zip(described["emotions"], fused, strict=True):
        print(f"{name:10} {probability:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
