"""Progress messages."""

from collections.abc import Callable

Say = Callable[[str], None]
"""Shows a line to the user."""
