class LocalError(Exception):
    """An error for the user of the command line, who sees only its message."""
