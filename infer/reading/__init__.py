"""Recordings: what a file holds, its windows, and the faces in them."""
