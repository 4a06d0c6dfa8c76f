"""Raw clips in, cached features out. Owns what a feature means; never imports TensorFlow."""
