"""The page in a real browser, without its head, and the server behind it."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason='needs pip install "phrase-grounding[demo]"'),
]
ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
ANSWERED = 60_000  # milliseconds, on a busy machine


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start the command with some words; its process, its address, and the folder of all that it may write."""
    processes = []

    def start_command(*words):
        folder = tmp_path_factory.mktemp("demo")
        for name in ("home", "tmp", "here"):
            (folder / name).mkdir()
        surroundings = {
            **os.environ,
            **{"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT)},
            **{"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "home"), "XDG_CONFIG_HOME": str(folder / "home")},
        }
        command = [sys.executable, "-m", "grounding.demo", "port=0", *words]
        process = subprocess.Popen(
            command, cwd=folder / "here", env=surroundings, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        processes.append(process)
        line = next((line for line in process.stderr if "http://" in line), "")
        return process, re.search(r"http://\S+", line)[0], folder

    yield start_command
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(start):
    return start()[1]


@pytest.fixture(scope="module")
def browser():
    """Chromium, of the system or Playwright's own."""
    if find_spec("playwright") is None:
        pytest.skip("needs pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("needs a browser: apt-get install chromium, or playwright install chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """Open the page; nothing that it does afterwards may ask another address, or fail in the browser."""
    pages, troubles = [], []

    def open_one(**options):
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        pages.append(page)
        page.on("request", lambda request: troubles.append(request.url) if is_foreign(request.url, address) else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector(".answer .plain")
        return page

    yield open_one
    for page in pages:
        page.close()
    assert troubles == []


def is_foreign(url, address):
    return urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != urlsplit(address).netloc


def upload(page, path):
    """Choose a file as a visitor does, in place of the photo that is there; wait for a message, and return it."""
    message = "document.querySelector('#answer .message')?.innerText"
    before = page.evaluate(message)
    page.click("button[aria-label='Remove Image']")
    page.set_input_files("input[type=file]", path)
    page.wait_for_function(f"old => ({message} ?? old) != old", arg=before, timeout=ANSWERED)
    return page.evaluate(message)


def answer_after(page, change):
    """The values of the answer's JSON after a change of the choices, which it names."""
    before = page.get_attribute(".answer .download", "href")
    change()
    changed = "old => (document.querySelector('.answer .download')?.href ?? old) != old"
    page.wait_for_function(changed, arg=before, timeout=ANSWERED)
    return json.loads(b64decode(page.get_attribute(".answer .download", "href").partition(",")[2]))


def type_caption(page, caption):
    page.get_by_label("Caption").fill(caption)
    page.get_by_role("button", name="Find the phrases").click()


def phrases(page):
    return page.locator(".answer .phrase").all_inner_texts()


def shown_maps(page):
    page.wait_for_timeout(400)  # the time of a transition
    maps = page.locator(".answer .map").all()
    return [
        image.get_attribute("alt") for image in maps if image.evaluate("map => getComputedStyle(map).opacity") == "1"
    ]


@pytest.fixture
def photos(tmp_path, examples):
    for name in ("chelsea", "coffee"):
        Image.fromarray(examples[name]).resize((300, 200)).save(tmp_path / f"my {name}.jpg")
    return tmp_path


def test_a_phrase_that_is_clicked_shows_its_map(open_page):
    page = open_page()
    assert phrases(page) == ["A woman", "a space shuttle"]
    assert shown_maps(page) == []
    page.click(".answer .phrase >> text=a space shuttle")
    page.mouse.move(5, 5)
    assert shown_maps(page) == ["Attention to “a space shuttle”"]
    assert page.locator(".phrase[aria-pressed=true]").all_inner_texts() == ["a space shuttle"]
    page.hover(".answer td >> text=A woman")
    assert shown_maps(page) == ["Attention to “A woman”"]
    page.mouse.move(5, 5)
    page.keyboard.press("Tab")
    page.locator(".answer .phrase").nth(1).press("Enter")
    assert shown_maps(page) == []


def test_a_box_that_is_pointed_at_shows_its_phrase(open_page):
    page = open_page()
    page.locator(".answer .rank0[data-phrase='1'] .line").hover()
    assert shown_maps(page) == ["Attention to “a space shuttle”"]


def test_a_photo_and_a_caption_of_ones_own(open_page, photos):
    page = open_page()
    assert "Type a caption" in upload(page, photos / "my coffee.jpg")
    assert page.get_by_label("Caption").input_value() == ""
    page.get_by_label("Caption").fill("A cup <b>& a spoon</b> {{x}}")
    page.get_by_label("Caption").press("Enter")
    page.wait_for_selector(".answer", timeout=ANSWERED)
    assert phrases(page)[0] == "A cup"
    assert page.inner_text(".answer .caption") == "A cup <b>& a spoon</b> {{x}}"
    with page.expect_download() as download:
        page.click("text=Download JSON")
    assert download.value.suggested_filename == "my coffee.json"
    values = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert values["size"] == [200, 300]
    assert values["choices"] == {"method": "best", "proposals": "mcg", "area_exponent": None}
    assert [phrase["text"] for phrase in values["phrases"]] == phrases(page)
    assert values["phrases"][0]["ranked_by"] == "attention"


def test_an_example_and_another_method(open_page):
    page = open_page()
    page.click("[data-example='2']")
    page.wait_for_selector(".answer .phrase >> text=A cup", timeout=ANSWERED)
    page.click("#choices button")
    page.get_by_label("Attention", exact=True).click()
    with_cam = answer_after(page, page.get_by_role("option", name="CAM").click)
    with_own = answer_after(page, page.get_by_label("γ that was chosen").uncheck)
    assert (with_cam["choices"]["method"], with_own["choices"]["method"]) == ("cam", "cam")
    assert (with_cam["choices"]["area_exponent"], with_own["choices"]["area_exponent"]) == (None, 0.4)
    assert with_cam["phrases"] != with_own["phrases"]
    assert page.locator("input[type=range]").is_visible()
    assert phrases(page) == ["A cup", "a wooden table"]


def test_what_is_wrong_is_told(open_page, tmp_path):
    page = open_page()
    (tmp_path / "broken.jpg").write_text("no photo", encoding="utf-8")
    assert upload(page, tmp_path / "broken.jpg") == "broken.jpg: not an image, or of an unknown format"
    Image.new("L", (10_000, 9000)).save(tmp_path / "large.png")
    message = upload(page, tmp_path / "large.png")
    assert message == "large.png has 90.0 megapixels, and the page takes at most 50: scale it down"
    page.click("[data-example='1']")
    page.wait_for_selector(".answer .phrase >> text=A tabby cat", timeout=ANSWERED)
    type_caption(page, "a cat " * 1666 + "cats")
    page.wait_for_selector("#answer .message", timeout=ANSWERED)
    assert page.inner_text("#answer .message") == "The caption has 10,000 characters, and the page takes at most 1,000"


def test_a_file_that_is_too_large_is_not_kept(open_page, tmp_path):
    page = open_page()
    (tmp_path / "large.jpg").write_bytes(bytes(21_000_000))
    page.click("button[aria-label='Remove Image']")
    page.set_input_files("input[type=file]", tmp_path / "large.jpg")
    page.wait_for_selector("text=exceed the maximum allowed size of 20.0 Mb", timeout=ANSWERED)


def test_two_visitors_at_once_have_answers_of_their_own(open_page, photos):
    one, other = open_page(), open_page()
    upload(one, photos / "my chelsea.jpg")
    upload(other, photos / "my coffee.jpg")
    type_caption(one, "A tabby cat")
    type_caption(other, "A cup and a spoon")
    other.wait_for_selector(".answer", timeout=ANSWERED)
    one.wait_for_selector(".answer", timeout=ANSWERED)
    assert phrases(one) == ["A tabby cat"]
    assert phrases(other) == ["A cup", "a spoon"]


def test_a_phone_scrolls_in_one_direction(open_page):
    page = open_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def ask(address, method, path, body=None, **headers):
    """The status and the body of an answer; names of headers have underscores for hyphens."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Host": "elsewhere.example"}, 400),
        ("GET", "/gradio_api/file=/etc/hostname", {}, 403),
        ("GET", f"/gradio_api/file={ROOT}/pyproject.toml", {}, 403),
        ("GET", "/gradio_api/file=pyproject.toml", {}, 403),
        ("GET", "/gradio_api/file=http://127.0.0.1/a", {}, 403),
        ("GET", "/gradio_api/file=https%3A//elsewhere.example/a", {}, 403),
        ("GET", "/gradio_api/proxy=https://elsewhere.example/a", {}, 403),
        ("POST", "/gradio_api/upload", {"Content_Length": "30000000"}, 413),
        ("POST", "/gradio_api/upload", {"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_requests_that_the_page_never_makes_are_refused(address, method, path, headers, status):
    answer, _ = ask(address, method, path, **headers)
    assert answer.status == status


def test_only_uploads_can_be_named(address, tmp_path):
    """The request that the button makes, with other paths in it: Gradio alone would copy such a file, or fetch it."""
    _, content = ask(address, "GET", "/config")
    config = json.loads(content)
    button = next(part["id"] for part in config["components"] if part["type"] == "button")
    (call,) = (call["id"] for call in config["dependencies"] if [button, "click"] in call["targets"])
    example = next(part["props"]["value"]["path"] for part in config["components"] if part["type"] == "image")

    def join(*paths):
        photo = ", ".join(f'"path": {json.dumps(path)}' for path in paths)
        body = f"""{{"data": [{{{photo}, "meta": {{"_type": "gradio.FileData"}}}}, "A cup", "best", "mcg", true, 0.4],
            "fn_index": {call}, "session_hash": "visitor"}}"""
        answer, content = ask(address, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
        return answer.status, content.decode()

    assert join(example)[0] == 200
    _, content = ask(address, "GET", "/gradio_api/queue/data?session_hash=visitor")
    assert '<div class=\\"answer\\">' in content.decode()
    (tmp_path / "photo.jpg").symlink_to(ROOT / "docs" / "examples.jpg")
    outside = [str(ROOT / "docs" / "examples.jpg"), f"{example}/../../../../photo.jpg", str(tmp_path / "photo.jpg")]
    for paths in (*((path,) for path in outside), ("http://127.0.0.1/a.jpg",), (example, outside[0]), (["a"],)):
        assert join(*paths) == (403, "The photo was not uploaded to this page.")
    assert ask(address, "POST", "/gradio_api/queue/join", b"{" * 9)[0].status == 400


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind(start, stop, photos):
    process, address, folder = start("methods=cmwp", "proposal_methods=[edge_boxes]", "most_uploads=2")
    for number in range(4):
        content = (photos / "my coffee.jpg").read_bytes() + bytes([number])
        body = (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
            + content
            + b"\r\n--x--\r\n"
        )
        answer, paths = ask(address, "POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=x")
        assert answer.status == 200
        time.sleep(0.1)
    (newest,) = json.loads(paths)
    assert Path(newest).read_bytes() == content
    kept = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    assert len(kept) == 2
    process.send_signal(stop)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.strip() == "interrupted; the page is closed, and its photos are deleted"
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert list((folder / "tmp").iterdir()) == []
