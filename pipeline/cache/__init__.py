"""Shards on disk: format, plan, build, verify."""
