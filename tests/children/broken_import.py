"""A module that cannot be imported."""

raise ImportError("libGL.so.1: cannot open shared object file\nno such file")
