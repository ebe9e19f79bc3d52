"""What an id may look like."""

import unicodedata
from typing import Final

from domain.errors import InvalidValue

MAX_ID_LENGTH: Final = 128
_EXPECTED: Final = "1 to 128 characters, Unicode NFC, no control characters, no space at the ends"


def is_id(text: str) -> bool:
    """Tell whether a text could be an id: what could not names nothing that there is."""
    try:
        check_id(text, "id")
    except InvalidValue:
        return False
    return True


def check_id(text: str, field: str) -> str:
    """Return an id that may be kept; raises InvalidValue.

    Ids are 1 to 128 characters in Unicode's normal form C, without control characters.
    """
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ID_LENGTH:
        if text[0] != " " and text[-1] != " ":
            return text
        raise InvalidValue(field, text, _EXPECTED)
    if not 0 < len(text) <= MAX_ID_LENGTH or text != text.strip():
        raise InvalidValue(field, text, _EXPECTED)
    if not unicodedata.is_normalized("NFC", text):
        raise InvalidValue(field, text, _EXPECTED)
    if any(unicodedata.category(character).startswith("C") for character in text):
        raise InvalidValue(field, text, _EXPECTED)
    return text
