"""ISO 4217: which codes there are, and how many digits of an amount are minor units.

Leaves the list in force to the `iso4217` package, which follows the published one.
"""

import iso4217

WITHDRAWN = {
    "BYR": 0,
    **dict.fromkeys(["ANG", "BGN", "CUC", "CYP", "EEK", "HRK", "LTL", "LVL", "MRO"], 2),
    **dict.fromkeys(["MTL", "SIT", "SKK", "SLL", "STD", "VEF", "ZWL"], 2),
}
"""Codes of list three, withdrawn in this century: deals of those years are history that may be imported."""
DIGITS = WITHDRAWN | {currency.code: currency.exponent or 0 for currency in iso4217.Currency}
"""Code to digits after the point (EUR 2, JPY 0, KWD 3); units without minor units, such as gold, have 0."""


def display(amount_minor: int, code: str) -> str:
    """`display(123456, "EUR")` is `1,234.56 EUR`; a code that is not in the list has 2 digits."""
    digits = DIGITS.get(code, 2)
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole:,}{f'.{part:0{digits}d}' if digits else ''} {code}"
