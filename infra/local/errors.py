class LocalError(Exception):
    """An error that the user can correct. The message quotes the invalid value and says what is expected."""
