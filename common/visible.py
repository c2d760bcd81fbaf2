"""Names from outside as they may be shown: no sign of them can drive a terminal or hide.

Of people, folders, models and federations: whoever names a file chooses what stands in a message.
"""

from __future__ import annotations

import unicodedata

UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")  # Unicode: control, format, line ends, no signs
JOINERS = "\u200c\u200d"  # within words of some languages


def visible(text: object) -> str:
    """Text on one line, with what cannot be seen spelled as in Python: ESC is `\\x1b`."""
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in UNSEEN and sign not in JOINERS
        else sign
        for sign in str(text)
    )
