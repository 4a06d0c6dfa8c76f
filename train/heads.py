"""The outputs of the network, named where nothing needs TensorFlow."""

HEADS = ("fused", "audio", "video")
"""The answer, what the voice alone says, what the face alone says; each with the same target."""
