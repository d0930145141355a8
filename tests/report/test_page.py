"""The page in a real browser: no console error, no script of a transcript, usable by keyboard and on a phone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import browser
import made_runs
import numpy as np
import pytest
from PIL import Image

from vadv.report.build import build
from vadv.report.page.write import _hash, _json
from vadv.report.strips import frame_strips, strip

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u2028'\"&amp;"
"""A transcript that tries to break out."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, sample_shards: Path) -> Path:
    """A report on made runs over the clips of real shards, with transcripts that try to break out."""
    from shards.dataset import ClipSet

    root = tmp_path_factory.mktemp("page")
    clips = ClipSet(sample_shards, "test")
    rows = [dict(clips.meta(*clips.locate(index))) for index in range(len(clips))]
    rows[0]["text"], rows[1]["text"], rows[2]["text"] = EVIL, "   ", "needle 😀 " + "word " * 300
    rows += made_runs.clips(40, "<i>evil</i>")
    made_runs.write_sweep(root / "runs", seeds=2, rows=rows)
    made_runs.write_run(root / "runs" / "<b>late", seed=7, finished=False)
    made_runs.write_run(root / "runs" / "odd", rows=rows, settings={"teacher.face": False, "teacher.prompting": False})
    report = build([root / "runs"], root / "out", shards=[str(sample_shards)], most_clips=60)
    assert list(report.outside) == ["runs/odd"]
    assert list(report.problems) == ["runs/<b>late"]
    return root / "out" / "index.html"


@pytest.fixture(scope="module")
def window(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """The page, opened from disk."""
    if reason := browser.missing():
        pytest.skip(reason)
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def fresh(window: browser.Browser, page: Path) -> browser.Browser:
    """The page anew, at desktop size."""
    window.resize(1280, 900)
    window.open(page.as_uri())
    return window


def test_nothing_in_the_page_comes_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", re.sub(r"<script.*?</script>", "", text, flags=re.S))
    # One script that runs; the other is data. Strangers' markup is text.
    assert len(re.findall(r"<script", text)) == 2
    assert "<img src=x" not in text and "<b>late" not in text


def test_json_in_a_script_element_cannot_end_it() -> None:
    text = _json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    # A published value: the hash of the empty text.
    assert _hash("") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (768, False), (390, True), (320, True)])
def test_no_error_and_nothing_wider_than_the_window(
    fresh: browser.Browser, width: int, phone: bool, tmp_path: Path
) -> None:
    fresh.resize(width, 844, phone=phone)
    fresh.open(fresh.script("return location.href.split('#')[0]"))
    loaded = fresh.script(
        "for (const i of document.images) i.loading = 'eager';"
        "return Promise.all([...document.images].map((i) => i.decode())).then(() => document.images.length)"
    )
    assert loaded > 10
    assert fresh.script("return document.documentElement.scrollWidth") <= width
    assert fresh.console() == []
    assert fresh.script("return document.title") == "VideoAdviser: report on 18 runs"
    with Image.open(io.BytesIO(fresh.screenshot(tmp_path / "x.png").read_bytes())) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_a_transcript_is_text(fresh: browser.Browser) -> None:
    fresh.script(
        "document.getElementById('clip-search').value = 'owned';"
        "document.getElementById('clip-search').dispatchEvent(new Event('input'))"
    )
    texts = fresh.script("return [...document.querySelectorAll('.clip blockquote')].map((b) => b.textContent)")
    assert texts == [EVIL]
    assert fresh.script("return document.querySelectorAll('blockquote *').length") == 0
    assert "owned" not in fresh.script("return document.title")
    assert fresh.script("return [...document.scripts].length") == 2


def test_the_policy_stops_what_would_get_in(fresh: browser.Browser) -> None:
    fresh.script(
        "const s = document.createElement('script'); s.textContent = \"document.title = 'owned'\";"
        "document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'https://example.invalid/x.png'; document.body.append(i)"
    )
    assert fresh.script("return document.title") != "owned"
    refused = fresh.console()
    assert any("Content Security Policy" in line and "script" in line for line in refused)


def test_tables_are_sorted_by_keyboard(fresh: browser.Browser) -> None:
    read = (
        "const t = [...document.querySelectorAll('figure.table')].find((f) => f.textContent.includes('Table 10.'));"
        "return [...t.querySelectorAll('tbody tr')].map((r) => r.cells[1].dataset.sort)"
    )
    before = fresh.script(read)
    fresh.script(
        "[...document.querySelectorAll('figure.table')].find((f) => f.textContent.includes('Table 10.'))"
        ".querySelectorAll('thead button')[1].focus()"
    )
    orders = []
    for _ in range(3):
        fresh.press("enter")
        orders.append(fresh.script(read))
    assert orders[0] == sorted(before, key=float)
    assert orders[1] == orders[0][::-1]
    assert orders[2] == before
    state = "return document.activeElement.closest('th').getAttribute('aria-sort')"
    assert fresh.script(state) is None
    fresh.press("space")
    assert fresh.script(state) == "ascending"


def test_every_control_is_reached_by_tab(fresh: browser.Browser) -> None:
    wanted = fresh.script(
        "return [...document.querySelectorAll('a[href], button:not([hidden]), select, input, summary')].length"
    )
    reached = fresh.script(
        "window.seen = new Set(); document.addEventListener('focusin', (e) => seen.add(e.target));return 0"
    )
    for _ in range(wanted + 120):
        fresh.press("tab")
        if fresh.script("return document.activeElement === document.body"):
            break
    reached = fresh.script(
        "return [...document.querySelectorAll('a[href], button:not([hidden]), select, input, summary')]"
        ".filter((e) => seen.has(e)).length"
    )
    assert reached == wanted


def test_clips_are_filtered_searched_and_ordered(fresh: browser.Browser) -> None:
    def choose(control: str, value: str) -> list[str]:
        found: list[str] = fresh.script(
            "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
            "c.dispatchEvent(new Event('input', {bubbles: true}));"
            "return [...document.querySelectorAll('.clip')].map((c) => c.textContent)",
            control,
            value,
        )
        return found

    everything = choose("clip-label", "")
    off = [float(re.search(r"off by ([\d.]+)", text)[1]) for text in everything]  # type: ignore[index]
    assert len(everything) == 24 and off == sorted(off, reverse=True)
    labels = [float(re.search(r"label\s*(−?[\d.]+)", t)[1].replace("−", "-")) for t in choose("clip-label", "negative")]  # type: ignore[index]
    assert labels and all(label < 0 for label in labels)
    choose("clip-label", "")
    gaps = [float(re.search(r"teacher ([\d.]+)$", text)[1]) for text in choose("clip-order", "gap")]  # type: ignore[index]
    assert gaps == sorted(gaps, reverse=True)
    choose("clip-order", "error")
    assert all("needle" in text for text in choose("clip-search", "NEEDLE word"))
    assert choose("clip-search", "no such words anywhere") == []
    assert fresh.script("return document.getElementById('clip-count').textContent") == "0 clips"
    choose("clip-search", "")
    before = fresh.script("return document.querySelectorAll('.clip').length")
    fresh.script("document.getElementById('clip-more').focus()")
    fresh.press("enter")
    after = fresh.script("return document.querySelectorAll('.clip').length")
    assert after > before == 24
    assert fresh.script("return [...document.querySelectorAll('.clip')].indexOf(document.activeElement)") == 24
    # The other runs have their own clips; one without a teacher has one logit.
    last = fresh.script("return document.getElementById('clip-run').length") - 1
    titles = fresh.script("return [...document.getElementById('clip-run').options].map((o) => o.textContent)")
    alone = next(index for index, title in enumerate(titles) if "student alone" in title)
    assert last == len(titles) - 1 and "teacher" not in choose("clip-run", str(alone))[0]
    assert fresh.console() == []


def test_a_link_to_a_run_opens_it(fresh: browser.Browser) -> None:
    fresh.script("document.querySelector('a[href=\"#run-2\"]').click()")
    assert fresh.script("return document.getElementById('run-2').open") is True
    assert "objective:" in fresh.script("return document.querySelector('#run-2 pre').textContent")
    assert "torch: 2.14.1" in fresh.script("return document.querySelectorAll('#run-2 pre')[1].textContent")


def test_strips_show_the_clips_frames(sample_shards: Path) -> None:
    from shards.dataset import ClipSet

    clips = ClipSet(sample_shards, "test")
    wanted = {("sample", str(clips.meta(*clips.locate(index))["id"])) for index in range(3)}
    found = frame_strips([str(sample_shards)], "test", {*wanted, ("sample", "not there")})
    assert set(found) == wanted
    with Image.open(io.BytesIO(next(iter(found.values())))) as image:
        assert (image.format, image.size) == ("JPEG", (576, 96))


def test_frames_stand_side_by_side() -> None:
    frames = np.zeros((3, 3, 16, 16), np.uint8)
    frames[1, 0] = 255
    with Image.open(io.BytesIO(strip(frames))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (16, 48, 3)
    assert pixels[:, 20:28, 0].min() > 200 and pixels[:, :12].max() < 60 and pixels[:, 36:].max() < 60


def test_the_list_of_runs_is_complete(page: Path) -> None:
    with (page.parent / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 18
    late = next(line for line in lines if line["run"].endswith("late"))
    assert late["state"] == "not finished" and late["mae"] == ""
