"""The format of a user_id. The tables `users` and `erased` have the same pattern in their constraints."""

import re

USER_ID_PATTERN = "[0-9]{1,18}"

USER_ID_FORMAT = "1 to 18 digits"
"""The pattern in words, for messages."""

_USER_ID = re.compile(USER_ID_PATTERN)


def is_user_id(text: str) -> bool:
    return _USER_ID.fullmatch(text) is not None
