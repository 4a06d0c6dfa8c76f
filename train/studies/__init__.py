"""Protocols, folds and studies: several trainings and what they tell."""
