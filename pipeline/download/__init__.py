"""Published corpora to raw folders: lists of files, transfers that resume, archives unpacked."""
