"""How long a corpus takes, how large its cache becomes, and what limits it."""
