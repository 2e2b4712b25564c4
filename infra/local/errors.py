class LocalError(Exception):
    """An error for the user of the command line, who gets only its message."""
