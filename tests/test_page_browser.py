"""The report page in a real browser, at the width of a screen and of a telephone."""

import json
import shutil

import pytest
from conftest import TINY
from report_page import write_everything, write_page

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="needs Selenium: 'pip install selenium'"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
if not CHROMIUM or not DRIVER:
    pytest.skip(
        "needs chromium and chromedriver: 'apt-get install chromium chromium-driver'",
        allow_module_level=True,
    )

SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")

PLAYED = """
const done = arguments[0], video = document.querySelector("video");
video.muted = true;
video.addEventListener("timeupdate", () => video.currentTime > 0 && done(video.currentTime));
video.addEventListener("error", () => done(video.error.message));
video.play();
"""

BROKEN = """
return [...document.images].filter(image => !image.complete || !image.naturalWidth)
  .map(image => image.alt)
"""

INK = "return getComputedStyle(document.querySelector('svg text')).fill"
PAPER = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    out = root / "report.html"
    write_page(out, **write_everything(root, TINY))
    return out.as_uri()


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser, page, width, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page)
    # Of every fold, too.
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window_and_every_image_is_there(browser, page, width):
    show(browser, page, width)
    wide, shown = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown <= width
    assert browser.execute_script(BROKEN) == []


def test_the_page_asks_for_nothing_else_and_complains_of_nothing(browser, page):
    browser.get_log("performance")
    show(browser, page, 1280)
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert {address for address in asked if not address.startswith("data:")} == {page}
    assert browser.get_log("browser") == []


def test_the_recording_plays(browser, page):
    show(browser, page, 1280)
    assert isinstance(browser.execute_async_script(PLAYED), float)


def test_dark_is_light_letters_on_dark_paper(browser, page):
    def brightness(script):
        colour = browser.execute_script(script)
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    show(browser, page, 390, "light")
    assert brightness(INK) < 200 < 600 < brightness(PAPER)
    show(browser, page, 390, "dark")
    assert brightness(PAPER) < 200 < 600 < brightness(INK)
