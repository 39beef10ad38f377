"""A project of its own, which builds on the codec from Cython; see README.md."""
