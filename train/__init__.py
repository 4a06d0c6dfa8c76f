"""Cached features in, trained and evaluated model out."""
