"""A made-up corpus: synthetic voices and drawn faces under RAVDESS names."""
