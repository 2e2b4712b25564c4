"""What spreadsheets do with CSV."""

FORMULA_PREFIXES = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Text that begins with one of these is run as a formula, unless an apostrophe goes before it."""
