"""Names of branches, heads and tensors, where nothing needs TensorFlow."""

INPUTS = {"audio": "mfcc", "video": "frames"}
"""Tensor that each branch reads."""

HEADS = ("fused", *INPUTS)
"""Outputs of the model: the fused probabilities, then those of each branch."""

TENSORS = ("mfcc", "frames")
"""Tensors of a row, in the order of its file."""

AUGMENTATIONS = {"audio": ("vocal_tract", "speaker"), "video": ("view",)}
"""Augmentations that each branch applies in training, as layers of its own."""

LEFT_OUT = {"audio": "audio: no clip has audio", "video": "video: no clip has video"}
"""What a report says of a head without any clip to be tested on."""

UNTAUGHT = {
    "audio": "audio: not trained",
    "video": "video: not trained",
}
"""What a report says of a head whose branch was not trained."""
