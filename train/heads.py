"""The outputs of the network, named where nothing needs TensorFlow."""

HEADS = ("fused", "audio", "video")
"""The answer, what the voice alone says, what the face alone says; each with the same target."""

READERS = ("cepstrum_cnn", "cepstrum_gru", "bands_cnn", "bands_gru")
"""Networks that read the MFCC image, each with an opinion; the audio head is their mean."""

INPUTS = {"audio": "mfcc", "video": "frames"}
"""What the head of one modality is given."""

INPUT_NAMES = tuple(INPUTS.values())
"""Tensors of a row, in the order of its file."""

LEFT_OUT = {"audio": "voice alone: no clip has audio", "video": "face alone: no clip has video"}
"""What a report says of a head without any clip to be judged on."""

UNTAUGHT = {
    "audio": "voice alone: no training clip has audio",
    "video": "face alone: no training clip has video",
}
"""What a report says of a head that has learned from no clip."""

LESSONS = {
    "fused": ("fused",),
    "audio": ("audio", *(f"audio_{reader}" for reader in READERS)),
    "video": ("video",),
}
"""Of each head, the outputs that have the emotion for a target in training."""

CHANGES = {"audio": ("tract", "voices", "tempo", "shift", "masks"), "video": ("halves", "views")}
"""What is done to training rows on the fly, by the branch that learns from it."""
