"""The command ``emotion-av``: one name in front of ``pipeline``, ``train`` and ``infer``."""

__version__ = "0.1.0"
