"""Values of others in messages."""

MAX_QUOTED = 40
"""Characters of a value that a message shows."""


def truncate(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"


def quoted(text: str) -> str:
    """The text as a message shows it: escaped, in quotes, and truncated."""
    return repr(truncate(text))
