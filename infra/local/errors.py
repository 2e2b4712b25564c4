class LocalError(Exception):
    """What a person can mend: its message names what is wrong and what is allowed."""
