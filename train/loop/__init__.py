"""One training loop: optimizer, schedule, checkpoints, bars."""
