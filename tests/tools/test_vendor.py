"""What is vendored is what was fetched, with its licence."""

from __future__ import annotations

import pytest

from tools import vendor


@pytest.mark.parametrize("library", vendor.LIBRARIES, ids=lambda library: library.package)
class TestVendored:
    def test_has_the_checksums_it_was_fetched_with(self, library: vendor.Library) -> None:
        lines = (library.folder / vendor.CHECKSUMS).read_text().splitlines()

        assert {name: sum for sum, name in (line.split("  ") for line in lines)} == vendor.checksums(library)

    def test_holds_nothing_else_and_its_licence(self, library: vendor.Library) -> None:
        names = {path.name for path in library.folder.iterdir()}

        assert names == {*vendor.checksums(library), vendor.CHECKSUMS}
        assert "LICENSE" in names
