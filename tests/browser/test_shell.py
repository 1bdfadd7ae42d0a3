"""What every page has: keys, help, palette, zone; and nothing that axe (WCAG 2.2 AA) complains of."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_live_page import CHROMIUM, SCREENSHOTS, chromium, fill, page
from tests.monitoring.fakes import FakeController
from tests.monitoring.serving import Site
from tools import vendor

__all__ = ["chromium", "page"]

AXE = next(library for library in vendor.LIBRARIES if library.package == "axe-core").folder / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = ["/", "/tasks/", "/agents/ruff-swift", "/workflows", "/runs", "/schedules", "/approvals", "/alerts", "/limits"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: apt install chromium"),
]


class TestKeys:
    def test_lead_to_pages_and_to_the_help(self, page: Page, site: Site) -> None:
        page.keyboard.press("Shift+?")
        expect(page.get_by_role("dialog")).to_contain_text("Tasks")
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.keyboard.press("t")

        page.wait_for_url(site.url + "/tasks/")


class TestPalette:
    def test_goes_to_an_agent_by_its_name(self, page: Page, site: Site) -> None:
        page.keyboard.press("Control+k")
        page.keyboard.type("agent ruff-swi")
        expect(page.locator("#palette li")).to_have_count(1)
        page.keyboard.press("Enter")

        page.wait_for_url(site.url + "/agents/ruff-swift")


class TestZone:
    def test_is_kept_and_printed(self, page: Page, site: Site) -> None:
        expect(page.locator("#live")).to_have_text("Live")
        page.get_by_label("Time zone").select_option("Asia/Tokyo")
        expect(page.locator("#source time")).to_contain_text("GMT+9")
        page.reload()

        expect(page.get_by_label("Time zone")).to_have_value("Asia/Tokyo")
        expect(page.locator("#source time")).to_contain_text("GMT+9")


@pytest.mark.parametrize("theme", ["light", "dark"])
class TestAccessibility:
    def test_axe_finds_nothing(self, page: Page, site: Site, controller: FakeController, theme: str) -> None:
        fill(controller)
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        found = []

        for path in PAGES:
            page.goto(site.url + path)
            page.evaluate(AXE.read_text())
            for width in (360, 1440):
                page.set_viewport_size({"width": width, "height": 900})
                result = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
                if result["violations"] or not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
                    page.screenshot(path=SCREENSHOTS / f"axe-{path.replace('/', '_')}-{theme}-{width}.png")
                    nodes = [(rule["id"], node["html"]) for rule in result["violations"] for node in rule["nodes"]]
                    found.append((path, width, nodes))

        assert found == [], "\n".join(map(repr, found))
