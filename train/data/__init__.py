"""Cached rows to batches."""
