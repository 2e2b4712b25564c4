"""Changes are numbered in commit order, by the column `changed` of the table `outputs`: one counter per output.

A statement that changes what an output contains increments the counter, and so holds the counter's row lock until it
has committed. The statement is a transaction of its own, so a frozen client cannot prolong it. Changes are therefore
committed in the order of their numbers, and a reader of the counter sees every change up to that number. An output is
out of date if its counter is greater than it was in the snapshot of the last export.

Rows of `users` and `erased` have the number of their last change, from the counter of output.csv. So a query for the
changes since a number misses none, even while runs write.
"""


def take_number(output: str, rows: str) -> str:
    """Return SQL that increments the counter of `output` and returns it, or does neither if the CTE `rows` is empty."""
    return f"""
    update outputs set changed = changed + 1 where object = '{output}' and exists (select from {rows})
    returning changed
"""  # noqa: S608 - interpolates constants
