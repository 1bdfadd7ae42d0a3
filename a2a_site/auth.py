"""The first administrator."""

import os
import secrets
from pathlib import Path

from django.contrib.auth import get_user_model

NAME = "admin"


def password_file(home: Path) -> Path:
    """Return where the first administrator's password is kept (mode 0600)."""
    return home / "admin-password"


def make_first_admin(home: Path) -> bool:
    """Return True if there was no superuser and ``admin`` was made, with a random password kept in ``home``."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return False
    password = secrets.token_urlsafe(12)
    _keep(password_file(home), password)
    user = users.filter(username=NAME).first() or get_user_model()(username=NAME)
    user.is_staff = user.is_superuser = user.is_active = True
    user.set_password(password)
    user.save()
    return True


def _keep(path: Path, password: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
