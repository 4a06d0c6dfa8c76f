"""Predictions to metrics, reports and figures."""
