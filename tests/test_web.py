"""The page of ``escnet-d2 web``: what it does, and (slow) what a visitor sees in Chromium."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
from PIL import Image

from escnet_d2 import OpenVocabPredictor
from escnet_d2.outputs import SegmentedImage
from escnet_d2.web.picture import overlay_html
from escnet_d2.web.segmenter import MAX_CLASSES, PhotoSegmenter, shown_overlay, write_downloads

PHOTO = Path(__file__).resolve().parents[1] / "demo/images/00001.png"
NAMES = "wood|timber, striped purple triangle, sand"


@pytest.fixture(scope="module")
def segmenter():
    opts = ("VOCABULARY.SYNONYMS", "max")
    return PhotoSegmenter(OpenVocabPredictor(weights="escnet_tiny_shapes", opts=opts))


@pytest.fixture(scope="module")
def result(segmenter):
    return segmenter.segment(str(PHOTO), NAMES, "none", 0.5)


def test_photos_are_segmented_by_typed_names(segmenter, result):
    assert result.class_names == ("wood", "striped purple triangle", "sand")
    assert result.labels.shape == (192, 192)
    assert len(result.areas()) == 3
    everything = segmenter.segment(str(PHOTO), NAMES, "threshold", 1.0)
    assert everything.areas() == {"background": 1.0}


def test_bad_input_is_refused_in_words_for_visitors(segmenter, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    many = ", ".join(map(str, range(MAX_CLASSES + 1000)))
    for photo, names, message in (
        (None, NAMES, "Add a photo"),
        (tmp_path / "bad.png", NAMES, r"^bad.png is not a picture"),
        (PHOTO, " , ", "Type what to look for"),
        (PHOTO, many, "2,000 classes are more than the 1,000"),
    ):
        with pytest.raises(ValueError, match=message):
            segmenter.segment(photo, names, "none", 0.5)


def test_text_of_a_visitor_names_no_file(segmenter, tmp_path):
    (tmp_path / "secret.txt").write_text("password\n")
    result = segmenter.segment(PHOTO, f"{tmp_path / 'secret.txt'}, ade150", "none", 0.5)
    assert result.class_names == (str(tmp_path / "secret.txt"), "ade150")


def test_hidden_classes_turn_gray_and_downloads_are_whole(result, tmp_path):
    left, overlay = shown_overlay(result, ["wood", "sand"], 0.5)
    hidden = result.labels == 1
    assert np.array_equal(left.labels, np.where(hidden, -1, result.labels))
    times = overlay.width // hidden.shape[1]
    channels = np.asarray(overlay)[hidden.repeat(times, 0).repeat(times, 1)].T
    # Names of neighbors may reach into it.
    assert np.mean(channels.max(axis=0) == channels.min(axis=0)) > 0.95
    paths = write_downloads(tmp_path, result, left, 0.5)
    assert [Path(path).name for path in paths] == ["labels.png", "overlay.png", "result.json"]
    with Image.open(paths[0]) as image:
        assert np.array_equal(np.asarray(image), result.labels)
    record = json.loads(Path(paths[2]).read_text(encoding="utf-8"))
    assert (record["class_names"], record["file"]) == ([*result.class_names], "")


def test_regions_of_the_picture_are_the_labels():
    labels = np.zeros((80, 100), np.int32)
    cv2.circle(labels, (50, 40), 30, 1, -1)
    cv2.circle(labels, (50, 40), 12, 2, -1)
    names = ("sky", "<b>dog</b>", "eye")
    result = SegmentedImage(
        labels, np.ones(labels.shape, np.float32), names, np.zeros((80, 100, 3), np.uint8)
    )
    page = overlay_html(result, result.overlay(with_legend=False))
    assert "<b>" not in page
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', page).groups())
    regions = dict(re.findall(r'<g data-name="([^"]+)"><path d="([^"]+)"', page))
    assert [*regions] == ["sky", "&lt;b&gt;dog&lt;/b&gt;", "eye"]
    for index, path in enumerate(regions.values()):
        drawn = np.zeros((height, width), np.uint8)
        polygons = [
            np.array([point.split(",") for point in part.split()], np.int32)
            for part in re.findall(r"M([^Z]+)Z", path)
        ]
        # As SVG's evenodd.
        cv2.fillPoly(drawn, polygons, 1)
        wanted = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST) == index
        assert np.mean(drawn == wanted) > 0.98


def test_without_gradio_it_is_named(run_program, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "escnet_d2.web.page", raising=False)
    done = run_program("escnet-d2", "web")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("pip install gradio")


@pytest.mark.slow
def test_a_port_in_use(run_program):
    pytest.importorskip("gradio", reason="the extra `web` is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_program("escnet-d2", "web", "--port", port)
    assert done.returncode == 2
    assert f"Port {port} of 127.0.0.1 can't be used" in done.stderr.splitlines()[-1]


@pytest.fixture
def server(tmp_path):
    """Starts ``escnet-d2 web`` as users do; yields its address."""
    pytest.importorskip("gradio", reason="the extra `web` is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "escnet_d2", "web", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["GRADIO_TEMP_DIR"] = str(tmp_path / "gradio")
    environment["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while "Running on" not in (tmp_path / "log.txt").read_text():
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_a_visitor_reaches_no_file_of_the_machine(server, tmp_path):
    def post(name, content):
        request = Request(
            f"{server}/gradio_api/{name}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        return urlopen(request, timeout=60)

    def ask(photo, session):
        """Returns what the page answers to the button, as a visitor's own program asks."""
        data = [photo, NAMES, "none", 0.5, 0.5]
        number = next(
            entry["id"] for entry in config["dependencies"] if entry["api_name"] == "segment"
        )
        post("queue/join", {"data": data, "fn_index": number, "session_hash": session})
        query = urlencode({"session_hash": session})
        with urlopen(f"{server}/gradio_api/queue/data?{query}", timeout=60) as lines:
            for line in lines:
                if b"process_completed" in line:
                    return line.decode()
        raise AssertionError("no answer")

    with urlopen(f"{server}/config", timeout=60) as answer:
        config = json.load(answer)
    assert "This file was not uploaded" in ask({"path": str(PHOTO)}, "one")
    secret = tmp_path / "gradio.png"
    shutil.copy(PHOTO, secret)
    assert "This file was not uploaded" in ask({"path": str(secret)}, "two")

    uploaded = tmp_path / "gradio" / "photo.png"
    uploaded.parent.mkdir(exist_ok=True)
    shutil.copy(PHOTO, uploaded)
    # Names of sessions are no paths: neither to write to, nor to be emptied when the page closes.
    assert '"success":true' in ask({"path": str(uploaded)}, str(tmp_path / "own")).replace(" ", "")
    assert not (tmp_path / "own").exists()
    # The page's own folder is in it.
    files = tmp_path / "tmp" / "others.txt"
    files.touch()
    with contextlib.suppress(OSError):
        urlopen(f"{server}/gradio_api/heartbeat/..", timeout=2)
    time.sleep(2)
    assert files.exists()


@pytest.fixture
def page(server):
    """The page in a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium.")
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(accept_downloads=True)
        page.set_default_timeout(60_000)
        page.goto(server)
        yield page
        browser.close()


@pytest.mark.slow
def test_a_visit(page, tmp_path):
    from playwright.sync_api import expect

    def upload(path):
        page.set_input_files("#photo input[type=file]", path)

    regions = page.locator("#view .overlay g")
    picture = page.locator("#view .overlay image")
    page.locator("#names textarea").fill(NAMES)
    upload(PHOTO)
    expect(regions).to_have_count(3)

    # The name under the pointer: wood is at the top right.
    box = picture.bounding_box()
    name = page.locator("#view .overlay g[data-name=wood] text")
    expect(name).to_be_hidden()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 30)
    expect(name).to_be_visible()
    assert re.match(r"wood . \d+\.\d", name.text_content())

    # Other names, another picture.
    before = picture.get_attribute("href")
    page.locator("#names textarea").fill("wood, sand")
    page.locator("button#segment").click()
    expect(regions).to_have_count(2)
    assert picture.get_attribute("href") != before
    page.locator("#shown label").filter(has_text="sand").click()
    expect(regions).to_have_count(1)

    with page.expect_download() as download:
        page.locator("#downloads a").first.click()
    with Image.open(download.value.path()) as image:
        assert image.size == (192, 192)
        # What is hidden is in the files.
        assert {*np.unique(np.asarray(image)).tolist()} == {0, 1}

    (tmp_path / "bad.png").write_text("no picture")
    upload(tmp_path / "bad.png")
    expect(page.get_by_text("bad.png is not a picture that can be read.")).to_be_visible()
    (tmp_path / "large.png").write_bytes(bytes(60 * 2**20))
    upload(tmp_path / "large.png")
    expect(page.get_by_text("exceed the maximum allowed size")).to_be_visible()
    # It goes on.
    page.locator("#names textarea").fill(NAMES)
    upload(PHOTO)
    expect(regions).to_have_count(3)
