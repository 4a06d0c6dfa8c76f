"""The trained model in other formats."""
