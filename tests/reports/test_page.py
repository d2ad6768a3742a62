"""The page: it needs nothing but itself, runs nothing, and shows text from files as text."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from run_folders import make_run

from maxent_rl.errors import StorageError
from maxent_rl.reports.report import write_report
from maxent_rl.reports.results import Options

QUICK = Options(resamples=50)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Tags with their attributes, and that every one is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def make_study(folder):
    for env in ("Pendulum-v1", "brax/ant"):
        for name, rate in (("fast", 1e-2), ("slow", 1e-4)):
            returns = {seed: [seed + step - rate for step in range(4)] for seed in range(4)}
            make_run(folder / env.replace("/", "-") / name, returns, env=env, agent={"learning_rate": rate})
    return folder


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "runs")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study's folder and the text of its page."""
    folder = make_study(tmp_path_factory.mktemp("study") / "runs")
    return folder, write_report([folder], options=QUICK).page.read_text()


@pytest.mark.slow
def test_the_page_loads_nothing_and_runs_nothing(written):
    _, text = written
    reader = Reader(text)
    assert reader.open == []
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action"):
            assert tag == "img" or name not in attributes
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,") and attributes["alt"]
    assert not re.search(r"url\(|@import", text)
    policy = dict(reader.tags)["meta"]  # the last one
    assert policy["content"].startswith("default-src 'none'")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in reader.tags


@pytest.mark.slow
def test_every_section_is_there_with_every_method_and_run(written):
    study, text = written
    reader = Reader(text)
    words = " ".join(reader.words)
    for heading in (
        "Scores",
        "Learning curves",
        "Comparison",
        "Time",
        "Runs",
        "Settings",
        "numbers are made",
    ):
        assert heading in words
    for text in ("sac learning_rate=0.01", "sac learning_rate=0.0001", "brax/ant", "jax 0.10.2", "50 resamples"):
        assert text in words
    for folder in study.glob("*/*/config.json"):
        assert str(folder.parent) in words
    assert sum(tag == "img" for tag, _ in reader.tags) == 2 + 2 + 4
    assert "2 methods on 2 environments with 16 training runs (one per seed) from 4 folders." in words


@pytest.mark.slow
def test_text_from_files_stays_text(tmp_path):
    evil = '"><script>alert(1)</script><img src="https://example.org/x.png">'
    returns = {0: [1.0, 2.0], 1: [2.0, 3.0]}
    folder = make_run(tmp_path / "runs" / "<b>run", returns, env=evil, agent={evil: evil})
    make_run(tmp_path / "runs" / "two", returns, env=evil, agent={evil: "other", "network": evil})
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("x86_64", "<img src=x>"))
    (make_run(tmp_path / "runs" / "<i>left", {0: [1.0]}) / "eval.csv").unlink()
    report = write_report([tmp_path / "runs"], options=QUICK)
    reader = Reader(report.page.read_text())
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "b", "i"}
    assert all(attributes["src"].startswith("data:") for tag, attributes in reader.tags if tag == "img")
    assert evil in " ".join(reader.words) and "<i>left" in " ".join(reader.words)


@pytest.mark.slow
def test_the_summary_says_whether_the_intervals_tell_methods_apart(tmp_path):
    for name, rate, shift in (("a", 1e-2, 0.0), ("b", 1e-3, 0.1), ("c", 1e-4, 100.0)):
        returns = {seed: [shift + seed] for seed in range(4)}
        make_run(tmp_path / "near" / name, returns, agent={"learning_rate": rate})
    words = " ".join(Reader(write_report([tmp_path], options=QUICK).page.read_text()).words)
    assert "sac learning_rate=0.0001 is highest with 101.5 [" in words and "all other intervals lie below" in words
    shutil.rmtree(tmp_path / "near" / "c")
    words = " ".join(Reader(write_report([tmp_path], options=QUICK).page.read_text()).words)
    assert "the intervals do not tell it from sac learning_rate=0.01." in words


def test_one_run_with_one_seed_and_one_evaluation_is_a_report(tmp_path):
    make_run(tmp_path / "run", {0: [1.0]}, seconds_per_step=None)
    words = " ".join(Reader(write_report([tmp_path], options=QUICK).page.read_text()).words)
    assert "sac reaches 1.000 (1 seed, step 1,000)." in words


@pytest.mark.slow
def test_an_earlier_report_is_replaced_is_no_run_and_the_same_runs_give_the_same_page(study):
    first = write_report([study], options=QUICK)
    assert first.page == study / "report" / "report.html"
    page = first.page.read_bytes()
    again = write_report([study], options=QUICK)
    assert again.page.read_bytes() == page
    assert again.files == first.files and again.left_out == ()
    assert {path for path in first.page.parent.rglob("*") if path.is_file()} == set(first.files)


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_one_sentence(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot make the folder"):
        write_report([study], tmp_path / "file", options=QUICK)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
def test_on_a_phone_nothing_is_wider_than_the_page(study, tmp_path):
    long = {"note": "a setting whose value is a sentence, and " + "one-word-without-a-place-to-break" * 4}
    make_run(study / ("a-folder-" * 20), {0: [1.0, 2.0]}, env="package:Environment" + "WithALongName" * 8, agent=long)
    text = write_report([study], tmp_path / "out", options=QUICK).page.read_text()
    # Chromium's own window is never narrower than 500 pixels: the page is put into a frame of a phone's width. A script
    # measures it, so the policy that forbids scripts is taken out here.
    measure = (
        "let page = document.documentElement; document.title = `${page.scrollWidth} ${page.clientWidth} ${innerWidth}`;"
    )
    text = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", f"<script>{measure}</script></body>")
    (tmp_path / "page.html").write_text(text)
    tell = "document.body.dataset.found = this.contentDocument.title"
    frame = f'<iframe src="page.html" style="width: 390px; height: 900px; border: 0" onload="{tell}"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=10000",
    ]
    profile, address = f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'frame.html'}"
    command = [BROWSER, *flags, profile, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'data-found="(\d+) (\d+) (\d+)"', done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    content, visible, frame_width = map(int, found.groups())
    assert content == visible <= frame_width == 390
