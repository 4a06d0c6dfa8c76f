"""Prediction of a camera, a stream, or a file in real time."""
