"""The network: a branch for each modality, and their fusion."""
