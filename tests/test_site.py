"""The documentation's site: built without a warning, whole, and without the network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rapbench
from rapbench.app.registries import REGISTRIES
from tests.browser import USABLE, requests
from tests.pages import PAGES, ROOT
from tests.reader import made

# What a browser fetches by itself; a link is followed by the reader.
FETCHED = {"src", "srcset", "data", "poster", "action", "formaction"}
STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?(https?:|//)")


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    _, mkdocs, *words = made(["make", "docs"])
    assert mkdocs == ".venv/bin/mkdocs"
    assert "--strict" in words
    assert not {"-q", "--quiet"} & set(words), "which also takes from --strict the warnings that it counts"
    command = [Path(sys.executable).parent / "mkdocs", *words, "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


class Fetches(HTMLParser):
    """What a page's elements make a browser fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in FETCHED and value]
        self.found += [value for name, value in attrs if tag == "link" and name == "href" and value]
        self.found += [found for name, value in attrs if name == "style" for found in STYLE.findall(value or "")]


def test_every_page_is_there(site):
    pages = {page.removeprefix("docs/").replace(".md", ".html") for page in PAGES if page.startswith("docs/")}
    assert pages <= {path.relative_to(site).as_posix() for path in site.rglob("*.html")}


def test_nothing_is_fetched_from_elsewhere_and_all_that_is_fetched_is_there(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # for servers, from whose root it counts
            continue
        for address in Fetches(page.read_text()).found:
            assert not re.match(r"[a-z]+:|//", address), (page, address)
            assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), (page, address)
    for style in site.rglob("*.css"):
        assert not STYLE.findall(style.read_text()), style


def test_formulas_are_mathml(site):
    text = (site / "methods.html").read_text()
    displayed = PAGES["docs/methods.md"].count("$$") // 2
    assert text.count('display="block"') == displayed
    assert "arithmatex" not in text
    assert "$" not in re.sub(r"<(pre|code|script|annotation)\b.*?</\1>", "", text, flags=re.S)
    assert not re.search(r"<m(?:i|o|text)>\\", text), "a command that was not understood"


def test_the_api_has_every_function_that_is_registered(site):
    for group, page in {"method": "methods", "protocol": "protocols"}.items():
        ids = set(re.findall(r'id="([^"]+)"', (site / f"api/{page}.html").read_text()))
        functions = [REGISTRIES[group][name].function for name in REGISTRIES[group]]
        assert {f"{function.__module__}.{function.__name__}" for function in functions} <= ids
    public = set(re.findall(r'id="([^"]+)"', (site / "api/rapbench.html").read_text()))
    assert {f"rapbench.{name}" for name in rapbench.__all__} <= public


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
def test_the_site_works_from_disk(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    page = (site / "index.html").as_uri()
    browser.get(page)
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("McNemar")
    WebDriverWait(browser, 20).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
    found = browser.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
    assert any("report.html" in link.get_attribute("href") for link in found)
    asked, failed = requests(browser, page)
    assert page in asked
    assert all(address.startswith(("file:", "data:", "blob:")) for address in asked), asked
    assert not failed


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
def test_no_page_is_wider_than_a_phone(site, browser):
    for page in sorted(site.rglob("*.html")):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})  # fmt: skip
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page
        wide = "[...document.querySelectorAll('math[display=block]')].filter(m => m.scrollWidth > m.clientWidth)"
        assert set(browser.execute_script(f"return {wide}.map(m => getComputedStyle(m).overflowX)")) <= {"auto"}
