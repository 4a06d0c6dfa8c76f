"""What is written and drawn: files, timelines, annotated and overlaid video."""
