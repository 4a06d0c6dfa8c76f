"""The page from end to end: the real command, and a real browser without a window."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import TINY, write_model

from infer.output import draw
from pipeline.media import encode, video
from pipeline.sample import corpus, voice

pytest.importorskip("gradio", reason="needs Gradio: 'make setup-app'")
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

ROOT = Path(__file__).parents[1]
WAIT_SECONDS = 90
"""Ends a test that would never end; a page answers within seconds."""

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A drawn face that speaks, as browsers play it and as they do not, and what is no video."""
    folder = tmp_path_factory.mktemp("clips")
    waveform, _, frames = corpus.record(corpus.Take(5, 2, 1, 1, 8), 0)
    shown = list(frames)
    encode.write_mp4(folder / "angry.mp4", shown, waveform, voice.SAMPLE_RATE_HZ)
    encode.write_mp4(folder / "mute.mp4", shown[:40], None, voice.SAMPLE_RATE_HZ)
    halves = [
        (time, video.Frame.from_ndarray(image[:, ::2]).reformat(format="yuv420p"))
        for time, image in shown[:40]
    ]
    for _, frame in halves:
        video.set_pixel_shape(frame, Fraction(2))
    encode.write_mp4(folder / "anamorphic.mp4", halves, None, voice.SAMPLE_RATE_HZ)
    with av.open(str(folder / "old.avi"), "w") as written:
        stream = written.add_stream("mpeg4", rate=corpus.FRAMES_PER_SECOND)
        stream.height, stream.width = shown[0][1].shape[:2]
        for number, (_, image) in enumerate(shown[:50]):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = number, Fraction(1, corpus.FRAMES_PER_SECOND)
            written.mux(stream.encode(frame))
        written.mux(stream.encode())
    (folder / "large.mp4").write_bytes(bytes(2_100_000))
    (folder / "letter.mp4").write_text("Dear reader, this is a letter.")
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of an untrained model, served by the command."""
    folder = tmp_path_factory.mktemp("model")
    tested = {"uar": 0.5, "recall": {"happy": 0.75}}
    metrics = {"fused": tested, "audio": tested, "video": tested, "clips": 9, "actors": [7, 8]}
    write_model(folder, TINY, corpus="voices of a test", metrics=metrics)
    command = [sys.executable, "-m", "infer.app", "--model", str(folder), "--max-mb", "2"]
    page = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = page.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:")
        yield line.split()[1]
    finally:
        page.send_signal(signal.SIGINT)
        assert page.wait(60) == 0


ANSWERED = """
const text = document.querySelector('.headline')?.textContent ?? '';
const shown = document.querySelector('#downloads')?.offsetParent;
return text.startsWith(arguments[0]) && shown && text
"""


class Visitor:
    """A browser that looks at the page."""

    def __init__(self, address):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for switch in SWITCHES:
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        service = webdriver.ChromeService(DRIVER)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.address = address
        self.open()

    def open(self):
        self.driver.get(self.address)
        self.until("return document.querySelector('#file input[type=file]') !== null")

    def until(self, script, *arguments):
        """Run a script until it returns what is true."""
        return self.until_true(lambda: self.driver.execute_script(script, *arguments), script)

    def until_true(self, ask, what=""):
        if found := self.within(WAIT_SECONDS, ask):
            return found
        shown = self.driver.execute_script("return document.body.innerText")
        return pytest.fail(f"waited {WAIT_SECONDS} s for: {what}; the page says: {shown}")

    @staticmethod
    def within(seconds, ask):
        """What is true before so many seconds have passed, else what is not."""
        began = time.monotonic()
        while not (found := ask()) and time.monotonic() - began < seconds:
            time.sleep(0.1)
        return found

    def give(self, path):
        field = self.until("return document.querySelector('#file input[type=file]')")
        field.send_keys(str(path))

    def click(self, name):
        self.until(
            "const found = document.getElementById(arguments[0]);"
            "const shown = found?.offsetParent && !found.disabled;"
            "if (shown) found.click(); return shown",
            name,
        )

    def tab(self, name):
        self.until(
            "const found = [...document.querySelectorAll('[role=tab]')]"
            ".find(each => each.textContent.includes(arguments[0]));"
            "found?.click(); return found",
            name,
        )

    def download(self, button, path):
        self.click(button)
        self.until_true(path.is_file)
        return path.read_bytes()

    def answered(self, name):
        return self.driver.execute_script(ANSWERED, name)

    def until_answered(self, name):
        return self.until(ANSWERED, name)

    def until_playable(self):
        self.until("return document.querySelector('.stage video').readyState >= 2")

    def resize(self, width, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def requested(self):
        """Addresses that were asked for since the last time."""
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, name):
        """Keep a screenshot where somebody asks for it."""
        if folder := os.environ.get("SCREENSHOTS"):
            height = self.driver.execute_script("return document.documentElement.scrollHeight")
            width = self.driver.execute_script("return innerWidth")
            self.resize(width, height)
            self.driver.save_screenshot(f"{folder}/{name}.png")


@pytest.fixture(scope="module")
def browser(address):
    found = Visitor(address)
    yield found
    found.driver.quit()


@pytest.fixture
def visitor(browser):
    """The page as it is first seen."""
    browser.resize(1280)
    browser.open()
    return browser


SEEK = """
const svg = [...document.querySelectorAll('.seek svg')].find(each => each.offsetParent
  || each.getBoundingClientRect().width);
svg.scrollIntoView({block: 'center'});
const area = svg.getBoundingClientRect(), left = +svg.dataset.left, scale = +svg.dataset.scale;
const at = (left + arguments[0] * scale) / svg.viewBox.baseVal.width;
const x = area.left + at * area.width;
const target = document.elementFromPoint(x, area.top + 14);
target.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: x, clientY: area.top + 14}));
return target.tagName;
"""

DRAWN = """
const canvas = document.querySelector('.stage canvas');
const seen = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let count = 0;
for (let n = 3; n < seen.length; n += 4) count += seen[n] > 0;
return count;
"""

EDGES = """
const canvas = document.querySelector('.stage canvas'), { width, height } = canvas;
const values = canvas.getContext('2d').getImageData(0, 0, width, height).data, counts = [];
for (let x = 0; x < width; x++) {
  counts.push(0);
  for (let y = 0; y < height; y++) {
    const place = 4 * (y * width + x);
    if (arguments[0].every((value, n) => value === values[place + n])) counts[x]++;
  }
}
const edges = counts.flatMap((count, x) => count > height / 5 ? [x / width] : []);
return edges.length && [width / height, edges[0], edges.at(-1)];
"""
"""Shape of what is shown, and where in it the first face's box begins and ends."""

OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_a_dropped_video_plays_with_labels(visitor, clips):
    visitor.give(clips / "angry.mp4")
    assert "voice alone" in visitor.until_answered("angry.mp4")
    visitor.until_playable()
    assert "angry.mp4" in visitor.until("return document.querySelector('.stage video').src")
    assert "%" in visitor.until("return document.querySelector('.stage').dataset.labels")
    # The box and its two plates, on the original: what is around them is transparent.
    assert 2_000 < visitor.until(DRAWN) < 100_000
    visitor.driver.execute_script("document.querySelector('.stage video').play()")
    visitor.until("return document.querySelector('.stage video').currentTime > 0.2")
    bars = visitor.driver.execute_script(
        "return [...document.querySelectorAll('.bars h4')].map(each => each.textContent)"
    )
    assert bars == ["Now, from voice and face", "Voice alone", "Face alone"]
    about = visitor.until("return document.querySelector('#about').textContent")
    assert "voices of a test" in about and "50 %" in about and "9 clips of 2 actors" in about
    visitor.picture("wide")


def test_boxes_lie_on_a_video_whose_pixels_are_not_square(visitor, clips, tmp_path):
    visitor.give(clips / "anamorphic.mp4")
    visitor.until_answered("anamorphic.mp4")
    visitor.until_playable()
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    visitor.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    result = json.loads(visitor.download("get-json", tmp_path / "anamorphic.json"))
    _, x, _, width, *_ = result["tracks"][0]["boxes"][0]
    shape, *edges = visitor.until(EDGES, draw.TRACK_COLOURS[0])
    assert shape == pytest.approx(2 * result["width_px"] / result["height_px"], abs=0.01)
    expected = [x / result["width_px"], (x + width) / result["width_px"]]
    assert edges == pytest.approx(expected, abs=0.02)


def test_a_click_on_the_timeline_moves_the_video(visitor, clips):
    visitor.give(clips / "angry.mp4")
    visitor.until_answered("angry.mp4")
    visitor.until_playable()
    assert visitor.driver.execute_script(SEEK, 1.5) == "rect"
    visitor.until("return Math.abs(document.querySelector('.stage video').currentTime - 1.5) < 0.1")
    moved = visitor.until(
        "const line = document.querySelector('.seek line'), svg = line.closest('svg');"
        "return (line.getAttribute('x1') - svg.dataset.left) / svg.dataset.scale"
    )
    assert moved == pytest.approx(1.5, abs=0.1)


def test_what_browsers_do_not_play_is_converted(visitor, clips):
    visitor.give(clips / "old.avi")
    text = visitor.until_answered("old.avi")
    assert "face alone" in text and "voice alone" not in text
    visitor.until_playable()
    assert visitor.until("return document.querySelector('.stage video').duration") > 1.9


def test_a_file_that_is_no_recording_is_one_message(visitor, clips):
    visitor.give(clips / "letter.mp4")
    text = visitor.until("return document.querySelector('#message')?.textContent.trim()")
    assert text.startswith("expected") and "letter.mp4" in text and "/" not in text
    visitor.picture("bad")
    visitor.give(clips / "mute.mp4")
    visitor.until_answered("mute.mp4")
    assert not visitor.driver.execute_script("return document.querySelector('#message')")


def test_a_file_that_is_too_large_is_not_sent(visitor, clips):
    visitor.give(clips / "large.mp4")
    text = visitor.until("return document.querySelector('.refused').textContent")
    assert text.startswith("expected at most 2 MB, got 2.1 in large.mp4; cut it")
    visitor.give(clips / "mute.mp4")
    visitor.until_answered("mute.mp4")
    assert visitor.driver.execute_script("return document.querySelector('.refused').hidden")


def test_an_example(visitor):
    visitor.tab("Example")
    visitor.click("example-happy")
    visitor.until_answered("happy, drawn.mp4")
    visitor.until_playable()


def test_downloads_and_a_video_on_demand(visitor, clips, tmp_path):
    visitor.give(clips / "mute.mp4")
    visitor.until_answered("mute.mp4")
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    visitor.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    assert visitor.download("get-csv", tmp_path / "mute.csv").startswith(b"time_seconds,")
    content = visitor.download("get-json", tmp_path / "mute.json")
    assert json.loads(content)["file"] == "mute.mp4"
    assert visitor.download("get-vtt", tmp_path / "mute.vtt").startswith(b"WEBVTT")
    visitor.click("render")
    video = visitor.download("get-mp4", tmp_path / "mute-annotated.mp4")
    assert video[4:8] == b"ftyp"


def test_a_recording_of_the_camera(visitor):
    visitor.tab("Record")
    visitor.until("const b = document.querySelector('#camera button'); b?.click(); return b")
    record = (
        "const b = [...document.querySelectorAll('#camera button')]"
        ".find(each => (each.textContent + each.ariaLabel + each.title).match(arguments[0]));"
        "b?.click(); return b"
    )
    visitor.until("return document.querySelector('#camera video')?.readyState >= 2")
    visitor.picture("camera")
    # How much of it is recorded follows from how busy the machine is: it may be nothing. Then it is
    # recorded again, as a visitor does.
    for _ in range(3):
        visitor.until(record, "ecord")
        time.sleep(3.0)
        visitor.until(record, "[Ss]top")
        if visitor.within(30, lambda: visitor.answered("")):
            break
    visitor.until_answered("")
    length = visitor.until("return document.querySelector('.stage video').duration")
    assert 0.1 < length < WAIT_SECONDS
    # A browser's own recording states no length: in the copy that is played, one can seek.
    assert visitor.driver.execute_script(SEEK, length / 2) == "rect"
    visitor.until(
        "const now = document.querySelector('.stage video').currentTime;"
        "return now > 0 && Math.abs(now - arguments[0]) < 0.1",
        length / 2,
    )


def test_two_visitors_at_once(visitor, address, clips):
    other = Visitor(address)
    try:
        visitor.give(clips / "angry.mp4")
        other.give(clips / "mute.mp4")
        assert "voice alone" not in other.until_answered("mute.mp4")
        assert "voice alone" in visitor.until_answered("angry.mp4")
        assert visitor.until("return document.querySelector('.stage video').duration") > 2.5
        assert other.until("return document.querySelector('.stage video').duration") < 2
    finally:
        other.driver.quit()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(visitor, clips, width):
    visitor.resize(width)
    assert visitor.driver.execute_script(OVERFLOW) == 0
    visitor.give(clips / "angry.mp4")
    visitor.until_answered("angry.mp4")
    visitor.until_playable()
    assert visitor.driver.execute_script(OVERFLOW) == 0
    visitor.picture(f"width-{width}")


def test_nothing_is_asked_of_another_address(browser, address):
    asked = browser.requested()
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert len(asked) > 10 and not elsewhere
