"""The demo in a real browser: two windows on one board see each other's strokes."""

import contextlib
import os
import tempfile

import pytest

from serve import EXAMPLES, Serve, wait_until

selenium = pytest.importorskip("selenium.webdriver")
pytestmark = [
    pytest.mark.skipif(not os.path.exists("/usr/bin/chromium"), reason="no chromium"),
    pytest.mark.skipif(not (EXAMPLES / "whiteboard.tar").exists(), reason="no examples built"),
]

# Pixels of the board that are not background, counted in the page.
COUNT_INK = """
const canvas = document.querySelector('canvas');
const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let ink = 0;
const first = [pixels[0], pixels[1], pixels[2], pixels[3]];
for (let i = 0; i < pixels.length; i += 4)
  if (first.some((value, k) => pixels[i + k] !== value)) ink++;
return ink;
"""


@contextlib.contextmanager
def browser(profile):
    options = selenium.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
                 "--disable-component-update", "--disable-sync", "--window-size=800,600",
                 f"--user-data-dir={profile}"):
        options.add_argument(flag)
    service = selenium.chrome.service.Service("/usr/bin/chromedriver")
    driver = selenium.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def draw(driver):
    canvas = driver.find_element("css selector", "canvas")
    actions = selenium.ActionChains(driver, duration=20)
    actions.move_to_element_with_offset(canvas, -100, -50).click_and_hold()
    for _ in range(10):
        actions.move_by_offset(15, 8)
    actions.release().perform()


@pytest.mark.timeout(180)
def test_a_stroke_in_one_window_appears_in_the_other():
    with tempfile.TemporaryDirectory(prefix="plane-board-") as directory, \
            contextlib.ExitStack() as stack:
        plane = Serve(directory)
        plane.import_image("whiteboard", EXAMPLES / "whiteboard.tar")
        stack.callback(plane.stop)
        plane.start()
        urls = [plane.connect("demo", image="whiteboard")["url"] for _ in range(2)]
        one, two = (stack.enter_context(browser(f"{directory}/profile{i}")) for i in range(2))
        one.get(urls[0])
        two.get(urls[1])
        assert two.execute_script(COUNT_INK) == 0

        def appeared():
            draw(one)
            return two.execute_script(COUNT_INK) > 50
        wait_until(appeared, 30, "the stroke in the second window")
        assert one.execute_script(COUNT_INK) > 50
