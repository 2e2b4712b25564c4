"""The commit order of changes: `changed` of the table `outputs`, one counter per output.

A statement that changes users, erased or rejected increments its counter, and so holds the counter's row lock until it
has committed. The statement is a transaction of its own, so a frozen client cannot prolong it. Numbers are therefore
committed in their order, and a reader of the counter sees every change with a number up to it. Each row of users and
erased has the number of its last change, so the changes since a number are complete even while others write. An output
is out of date if its counter is greater than the number that was exported.
"""


def take_number(output: str, rows: str) -> str:
    """SQL that increments the counter and returns it if the table `rows` is not empty, else returns no row."""
    return f"""
    update outputs set changed = changed + 1 where object = '{output}' and exists (select from {rows})
    returning changed
"""  # noqa: S608 - interpolates constants
