"""The documentation; its programs are in the package ``programs``."""
