"""What type checkers think of programs; nothing here runs. See tests/test_typing.py."""
