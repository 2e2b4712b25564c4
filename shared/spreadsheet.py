"""CSV fields that spreadsheets would run as formulas."""

FORMULA_PREFIXES = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""Text that begins with one of these is run as a formula, unless an apostrophe goes before it."""
