"""Raw folders to clips: names, tables, corpora, and the audit of raw files."""
