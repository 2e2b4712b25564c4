"""The order in which changes are committed: `changed` of the table outputs, a counter for each output.

A statement that changes users, erased or rejected takes the next number of its counter under the counter's row lock
and holds the lock until it has committed: it is a transaction of its own, so no client can freeze in between. Numbers
are therefore committed in their order, and whoever reads the counter sees all that has a number up to it. Every row
of users and of erased has the number of its last change, so the changes since a number are complete, also while
others write. An export that has written the state of a number is behind when the counter is ahead of it.
"""


def take_number(output: str, rows: str) -> str:
    """SQL of a common table expression that takes the next number if the table `rows` has any, else returns no row."""
    return f"""
    update outputs set changed = changed + 1 where object = '{output}' and exists (select from {rows})
    returning changed
"""  # noqa: S608 - interpolates constants
