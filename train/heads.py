"""The outputs of the network, named where nothing needs TensorFlow."""

HEADS = ("fused", "audio", "video")
"""The answer, what the voice alone says, what the face alone says; each with the same target."""

CHANGES = {"audio": ("voices", "tempo", "shift", "masks"), "video": ("views",)}
"""What is done to training rows on the fly, by the branch that learns from it."""
