"""A browser for pages on disk, and what they asked for."""

import json
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
USABLE = bool(CHROMIUM and shutil.which("chromedriver"))
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip


def start(profile, width: int = 1280, height: int = 1000):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (*QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def requests(browser, page):
    """Every address that a page asked for, and what of it failed to load."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = {entry["requestId"]: entry["request"]["url"] for entry in sent if entry["documentURL"] == page}
    failed = [event["params"] for event in events if event["method"] == "Network.loadingFailed"]
    return list(asked.values()), [entry for entry in failed if entry["requestId"] in asked]
