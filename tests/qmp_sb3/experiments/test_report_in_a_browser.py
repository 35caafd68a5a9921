"""Reports in Chromium: that every chart is drawn, fits, and works by mouse and keyboard."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("altair", reason="the extra report is not installed")
pytest.importorskip("vl_convert", reason="the extra report is not installed")

from qmp_sb3.experiments.report import write_report
from tests.qmp_sb3.experiments.synthetic_runs import EVIL, synthetic_run


def browser_problem() -> str | None:
    """Why no page can be opened, None where one can."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found (Debian: chromium, chromium-driver)" if missing else None


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    problem = browser_problem()
    if problem is not None:
        pytest.skip(f"browser: {problem}")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(shutil.which("chromedriver"))))
    yield driver
    driver.quit()


def wait(until: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)
    return found


def show(browser: Any, path: Path, width: int = 1400) -> None:
    """Open a page in a window of a width, and wait until its charts are drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    # Without it the page scrolls smoothly, and a click goes to where a control is not yet.
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(path.as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.state === 'drawn'"))


MARKS = """
return [...document.querySelectorAll('.view')].filter(e => !e.closest('[hidden]')).map(
    e => [e.closest('[data-figure]').id,
          e.querySelectorAll('.mark-line path, .mark-area path, .mark-rect path, .mark-rule.role-mark line').length])
"""


def check(browser: Any) -> None:
    """Every visible chart has marks; nothing was complained of, nothing was asked from elsewhere."""
    marks = browser.execute_script(MARKS)
    assert marks and all(count > 0 for _, count in marks), marks
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:")) for url in asked), asked


@pytest.fixture(scope="module")
def page(runs: list[Path], browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, tmp_path_factory.mktemp("page") / "report.html", films=0)


def test_every_chart_is_drawn(page: Path, browser: Any) -> None:
    show(browser, page)
    check(browser)
    for radio in browser.find_elements("css selector", "[type=radio]"):
        radio.click()
        wait(lambda: all(count for _, count in browser.execute_script(MARKS)))
    check(browser)


@pytest.mark.parametrize("width", [400, 3840])
def test_the_page_fits(width: int, page: Path, browser: Any) -> None:
    show(browser, page, width)
    check(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_slider_moves_the_heatmap_by_keyboard(page: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    figure = browser.find_element("id", "multistagereacher-v0-mixture-over-time")
    texts = "return [...arguments[0].querySelectorAll('.mark-text text')].map(e => e.textContent).join(' ')"
    before, slider = browser.execute_script(texts, figure), figure.find_element("name", "time")
    slider.send_keys(Keys.HOME)
    wait(lambda: browser.execute_script(texts, figure) != before)
    assert figure.find_element("tag name", "output").text == "steps 0 to 10,000"
    first = browser.execute_script(texts, figure)
    slider.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: browser.execute_script(texts, figure) != first)
    assert slider.get_attribute("aria-valuetext") == "steps 10,000 to 20,000"


def test_every_column_of_a_heatmap_has_its_name(tmp_path: Path, browser: Any) -> None:
    names = ["reach-0", "reach-1", "reach-2", "reach-3-sparse", "stay"]
    run = synthetic_run(tmp_path / "run", tasks=names)
    show(browser, write_report([run], tmp_path / "report.html", films=0))
    labels = """return [...document.querySelectorAll(`#${arguments[0]} .role-axis-label text`)]
        .filter(e => e.checkVisibility({opacityProperty: true}) && e.getAttribute('opacity') !== '0')
        .map(e => e.textContent)"""
    for figure in ("average", "over-time"):
        assert browser.execute_script(labels, f"multistagereacher-v0-mixture-{figure}") == 2 * names


def test_boxes_hide_methods_and_the_window_zooms(page: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    lines = """return [...document.querySelectorAll('#multistagereacher-v0-success_any .mark-line path')]
        .filter(e => e.getAttribute('stroke-width') === '2').map(e => e.getAttribute('stroke'))"""
    assert browser.execute_script(lines) == [f"var(--method-{number})" for number in range(2)]
    box = browser.find_element("css selector", "[name=method][value=qmp]")
    box.send_keys(Keys.SPACE)
    wait(lambda: browser.execute_script(lines) == ["var(--method-0)"])
    window = browser.find_element("class name", "window")
    assert window.text == "0 to 100,000 steps"
    browser.find_element("name", "until").send_keys(Keys.PAGE_DOWN)
    wait(lambda: window.text == "0 to 90,000 steps")
    shares = "return document.querySelectorAll('#multistagereacher-v0-success_any .role-axis-label')[1].textContent"
    assert browser.execute_script(shares).endswith("100%")
    labels = "return document.querySelector('#multistagereacher-v0-success_any .role-axis-label').textContent"
    wait(lambda: "80k" in browser.execute_script(labels) and "100k" not in browser.execute_script(labels))
    browser.find_element("name", "whole").click()
    wait(lambda: window.text == "0 to 100,000 steps")


def test_a_line_of_one_point_is_a_dot_in_the_window(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    runs = [synthetic_run(tmp_path / f"{seed}", seed=seed, points=1) for seed in range(2)]
    show(browser, write_report(runs, tmp_path / "report.html", films=0))
    dots = """return [...document.querySelectorAll(`#multistagereacher-v0-${arguments[0]} .mark-symbol path`)]
        .filter(e => e.getAttribute('opacity') !== '0').length"""
    assert [browser.execute_script(dots, name) for name in ("success_any", "mixture-curves-qmp")] == [1, 9]
    browser.find_element("name", "every_run").click()
    wait(lambda: browser.execute_script(dots, "success_any") == 3)
    browser.find_element("name", "until").send_keys(Keys.PAGE_DOWN)
    wait(lambda: browser.execute_script(dots, "success_any") == 0)


REACHABLE = """
return [...document.querySelectorAll('a[href], button, input, summary, video, [tabindex="0"]')]
    .filter(e => e.checkVisibility() && (e.type !== 'radio' || e.checked)).length
"""


def test_tab_reaches_every_control(page: Path, browser: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    wanted = browser.execute_script(REACHABLE)
    reached = set()
    for _ in range(wanted + 1):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focused = browser.switch_to.active_element
        if focused.tag_name == "body":
            break
        reached.add(focused.id)
    assert len(reached) == wanted


def test_numbers_are_a_table(page: Path, browser: Any) -> None:
    show(browser, page)
    details = browser.find_element("css selector", "#multistagereacher-v0-success_any-bars details")
    details.find_element("tag name", "summary").click()
    rows = wait(lambda: details.find_elements("css selector", "tbody tr"))
    assert len(rows) == 6  # three tasks, two methods
    assert details.find_element("css selector", "thead tr").text == "task method success from to"


def test_names_from_outside_are_text_in_the_browser(tmp_path: Path, browser: Any) -> None:
    path = synthetic_run(tmp_path / "run", tasks=(EVIL, "stay"))
    show(browser, write_report([path], tmp_path / "report.html", title=EVIL, films=0))
    check(browser)
    assert browser.find_element("tag name", "h1").text == EVIL


@pytest.mark.gl
def test_a_film_runs_beside_its_timeline(trained: Path, tmp_path: Path, browser: Any) -> None:
    show(browser, write_report([trained], tmp_path / "report.html", films=1))
    check(browser)
    video = browser.find_element("tag name", "video")
    wait(lambda: browser.execute_script("return arguments[0].readyState >= 2", video))
    assert browser.execute_script("return arguments[0].error", video) is None
    browser.execute_script("arguments[0].currentTime = arguments[0].duration / 2", video)
    acting = browser.find_element("class name", "acting")
    wait(lambda: re.fullmatch(r"step (?!0:)\d+: .+", acting.text))


@pytest.mark.slow
def test_forty_runs_of_fifty_tasks_stay_small(tmp_path: Path, browser: Any) -> None:
    methods = ("no-sharing", "qmp", "qmp-hold", "parameters+qmp", "mtsac", "pcgrad", "ctpg", "theirs")
    tasks = [f"task {number}" for number in range(50)]
    made = [
        synthetic_run(tmp_path / f"{method}-{seed}", method, seed, tasks, points=12, mixed="qmp" in method)
        for method in methods
        for seed in range(5)
    ]
    path = write_report(made, tmp_path / "report.html", films=0)
    assert path.stat().st_size < 15e6
    show(browser, path)
    check(browser)
