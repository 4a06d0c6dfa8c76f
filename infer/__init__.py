"""A trained model on raw files: predictions and annotated video."""
