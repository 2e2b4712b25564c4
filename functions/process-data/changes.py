"""The commit order of changes: `changed` of the table `outputs`, one counter per output.

A statement that changes a table increments the counter of its output, and so holds the counter's row lock until it has
committed. The statement is a transaction of its own, so a frozen client cannot prolong it. Numbers are therefore
committed in their order, and a reader of the counter sees every change with a number up to it. An output is out of date
if its counter is greater than the number that was exported.

Rows of users and of erased have the number of their last change, both from the counter of output.csv. So the changes
since a number are complete even while others write.
"""


def take_number(output: str, rows: str) -> str:
    """SQL that increments the counter and returns it if the table `rows` is not empty, else returns no row."""
    return f"""
    update outputs set changed = changed + 1 where object = '{output}' and exists (select from {rows})
    returning changed
"""  # noqa: S608 - interpolates constants
