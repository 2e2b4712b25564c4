"""Quote values from requests and files in messages."""

MAX_QUOTED = 40
"""The maximum number of characters that a message quotes of a value."""


def truncate(text: str) -> str:
    """The text, or its first `MAX_QUOTED` characters and an ellipsis."""
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"


def quote(text: str) -> str:
    """The text as messages quote it: truncated, escaped, in quotes."""
    return repr(truncate(text))
