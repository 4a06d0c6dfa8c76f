"""Names of branches, heads and tensors, where nothing needs TensorFlow."""

INPUTS = {"audio": "mfcc", "video": "frames"}
"""Tensor that each branch reads."""

HEADS = ("fused", *INPUTS)
"""Outputs of the model: the fused probabilities, then those of each branch."""

TENSORS = ("mfcc", "frames")
"""Tensors of a row, in the order of its file."""

AUGMENTATIONS = {"audio": ("vocal_tract", "speaker"), "video": ("view",)}
"""Augmentations that each branch applies in training, as layers of its own."""

MODALITIES = {"mfcc": "audio", "frames": "video"}
"""What a clip needs to have for each tensor."""

LEFT_OUT = {
    branch: f"{branch}: no clip has {MODALITIES[tensor]}" for branch, tensor in INPUTS.items()
}
"""What a report says of a head without any clip to be tested on."""

UNTAUGHT = {branch: f"{branch}: not trained" for branch in INPUTS}
"""What a report says of a head whose branch was not trained."""
