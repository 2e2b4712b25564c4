"""CSV fields that spreadsheets evaluate as formulas."""

FORMULA_PREFIXES = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""A field that begins with one of these is evaluated as a formula. An apostrophe before it prevents that."""
