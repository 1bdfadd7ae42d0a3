"""Secrets that have to be read again: encrypted at rest, and references to where others keep them.

The keys follow from ``A2A_SECRET_KEY`` and its predecessors in ``A2A_OLD_SECRET_KEYS``: what an older one sealed is
still opened, and is sealed by the newest when it is written again.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

SEALED = "sealed:"
REFERENCES = ("env:", "file:")


class Unreadable(Exception):
    """The secret cannot be read: {why}"""

    def __init__(self, why: str) -> None:
        super().__init__((type(self).__doc__ or "").format(why=why))


def seal(secret: str) -> str:
    """Return the secret in a form that may be stored; "" stays.

    What looks like a reference is sealed as well: those come from operators alone, who store them as they are.
    """
    return SEALED + _fernet().encrypt(secret.encode()).decode() if secret else ""


def is_reference(text: str) -> bool:
    """Return whether the text says where a secret is: ``env:NAME`` or ``file:/path``."""
    return text.startswith(REFERENCES)


def unseal(stored: str) -> str:
    """Return the secret that was stored. Raises ``Unreadable``."""
    if stored.startswith("env:"):
        return _of_environment(stored.removeprefix("env:"))
    if stored.startswith("file:"):
        return _of_file(stored.removeprefix("file:"))
    if not stored.startswith(SEALED):
        return stored
    try:
        return _fernet().decrypt(stored.removeprefix(SEALED).encode()).decode()
    except InvalidToken:
        raise Unreadable("it was sealed by another key. Put that into A2A_OLD_SECRET_KEYS.") from None


def _of_environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise Unreadable(f"the environment has no variable {name}.") from None


def _of_file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {error}.") from None


def _fernet() -> MultiFernet:
    return _made((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _made(keys: tuple[str, ...]) -> MultiFernet:
    digests = (hashlib.sha256(b"a2a secrets " + key.encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
