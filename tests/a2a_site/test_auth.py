import stat
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from a2a_site import auth

pytestmark = pytest.mark.django_db


class TestMakeFirstAdmin:
    def test_makes_one_who_can_sign_in_with_the_kept_password(self, home: Path) -> None:
        made = auth.make_first_admin(home)

        user = authenticate(username="admin", password=auth.password_file(home).read_text().strip())
        assert made
        assert isinstance(user, User)
        assert user.is_superuser

    def test_keeps_the_password_for_the_owner_alone(self, home: Path) -> None:
        auth.make_first_admin(home)

        assert stat.S_IMODE(auth.password_file(home).stat().st_mode) == 0o600

    def test_does_nothing_when_there_is_a_superuser(self, home: Path) -> None:
        User.objects.create_superuser("somebody")

        assert not auth.make_first_admin(home)
        assert not auth.password_file(home).exists()

    def test_raises_an_ordinary_user_of_that_name(self, home: Path) -> None:
        User.objects.create_user("admin")

        assert auth.make_first_admin(home)
        assert User.objects.get(username="admin").is_superuser
