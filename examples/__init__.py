"""Programs to read and to copy from; see README.md beside this file."""
