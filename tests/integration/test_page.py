"""The page of rollouts in a headless Chromium (``make test-page``); skipped where none is installed.

With ``SCREENSHOTS=<folder>`` in the environment, pictures of the page are kept there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from src.reporting.pages import page
from src.reporting.runs import find_runs, grouped
from src.utils.files import read_jsonl, write_jsonl
from tests.conftest import run_small
from tests.helpers.browser import CHROMIUM, Browser
from tests.unit.reporting.test_report import data_of, fake_run, turn

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium or Chrome on the PATH, e.g. apt-get install chromium"
)

PATIENCE = 1000
"""Milliseconds that a filter of 10,000 rollouts may take; on two busy cores it takes about 100."""
SCREENS = {"desktop": (1400, 1000), "phone": (390, 844)}
"""Width and height in pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


def written(folder: Path, runs: Path, steps: int = 1, trees: int = 2) -> Path:
    """Write the page of all runs in a folder."""
    file = folder / "rollouts.html"
    groups = grouped(find_runs([f"{runs}/*"])[0])
    file.write_text(page(groups, steps=steps, trees=trees, problems=2), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    for name, overrides in (("a", ["rounds=3"]), ("b", ["experiment=spiral", "train.log_tokens=true"])):
        run_small(folder / "runs" / name, *overrides, "train.steps=1")
    return written(folder, folder / "runs")


@pytest.fixture(scope="module")
def data(file: Path) -> dict[str, Any]:
    return data_of(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def kept(folder: Path) -> Path:
    """The folder of the screenshots."""
    place = Path(os.environ.get("SCREENSHOTS") or folder / "screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="module")
def desktop(folder: Path) -> Iterator[Browser]:
    with Browser(folder / "desktop", *SCREENS["desktop"]) as found:
        yield found


@pytest.fixture(scope="module")
def phone(folder: Path) -> Iterator[Browser]:
    with Browser(folder / "phone", *SCREENS["phone"], phone=True) as found:
        yield found


@pytest.fixture(params=["desktop", "phone"])
def anywhere(request: pytest.FixtureRequest) -> tuple[str, Browser]:
    """A desktop's browser and a phone's."""
    found: Browser = request.getfixturevalue(request.param)
    found.messages.clear()
    return request.param, found


@pytest.fixture
def browser(desktop: Browser, file: Path) -> Iterator[Browser]:
    """The page without filters; fails on a message in the console, and on any request but for the page."""
    desktop.messages.clear()
    desktop.requests.clear()
    desktop.open(file.as_uri())
    yield desktop
    assert desktop.messages == []
    assert {address.partition("#")[0] for address in desktop.requests} <= {file.as_uri()}


def page_of(folder: Path, turns: list[dict[str, Any]], **problem: str) -> Path:
    """Write the page of one run whose rollouts all have these turns."""
    run = fake_run(folder / "runs" / "a")
    about = {"id": "p", "question": "1 + 2 =", "answer": "3"} | problem
    for step in run.glob("rollouts/*.jsonl"):
        write_jsonl(step, [{"problem": about, "turns": turns}] * 2)
    return written(folder, folder / "runs", steps=2)


def assert_fits(browser: Browser, width: int) -> None:
    """The page is as wide as its window, and each box holds its content."""
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "[...document.querySelectorAll('.rollout, .panel, .chips, .chips > *')]"
    assert not browser.evaluate(f"{boxes}.some((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth)")


def set_filters(browser: Browser, **filters: str | int) -> None:
    """Set filters as a user does, and wait for the list."""
    browser.evaluate(
        f"for (const [name, value] of Object.entries({json.dumps(filters)})) {{"
        "form.elements[name].value = value; form.elements[name].dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    browser.wait(f"location.hash === {json.dumps('#' + urlencode(filters))}")


def found(browser: Browser) -> int:
    """The number of rollouts that the page says it found."""
    return int(status(browser).split()[0])


def status(browser: Browser) -> str:
    told: str = browser.evaluate("document.getElementById('status').textContent")
    return told


def place_of(data: dict[str, Any], where: str, letter: str) -> str:
    """The name of a place in the address of the page."""
    name: str = next(one["name"] for one in data["places"] if (one["where"], one["letter"]) == (where, letter))
    return name


def rollouts_of(data: dict[str, Any], place: str) -> list[dict[str, Any]]:
    return [one for one in data["rollouts"] if data["places"][one["place"]]["name"] == place]


def test_the_graph_has_a_node_for_each_turn_and_the_arrow_keys_move_along_it(
    browser: Browser, data: dict[str, Any]
) -> None:
    set_filters(browser, place=place_of(data, "training step", "B"))
    labels = browser.evaluate("[...document.querySelectorAll('.node')].map((one) => one.ariaLabel)")
    assert len(labels) == 4 + 4 * 2
    assert re.fullmatch(r"turn 1\.1, quotes \d, \d, \d, \d, (right|wrong)(, advantage [+\u2212]?\d\.\d\d)?", labels[4])
    assert browser.evaluate("document.querySelectorAll('.node[tabindex=\"0\"]').length") == 1
    assert browser.evaluate("document.querySelectorAll('circle.joint').length") == 4
    browser.evaluate("document.querySelector('.node').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    for key, chosen in (("ArrowRight", 4), ("ArrowDown", 5), ("Home", 0), ("End", 11)):
        browser.press(key)
        assert browser.evaluate("document.activeElement.dataset.turn") == str(chosen)
        assert browser.evaluate("document.querySelectorAll('.turn').length") == (1 if chosen == 0 else 5)


INSIDE = """(() => {
  const [frame, mark] = [".frame", ".node.chosen text:last-child"].map((one) => document.querySelector(one));
  const [outer, inner] = [frame, mark].map((one) => one.getBoundingClientRect());
  const [across, down] = [inner.left >= outer.left && inner.right <= outer.right,
    inner.top >= outer.top && inner.bottom <= outer.bottom];
  return across && down;
})()"""
"""Whether the verdict of the chosen turn is inside the frame of the graph."""

OVERLAPS = """[...document.querySelectorAll(".node")].filter((node) => {
  const [box, label, mark] = ["rect", "text", "text:last-child"].map((one) => node.querySelector(one).getBBox());
  return label.x < box.x || label.x + label.width + 2 > mark.x || mark.x + mark.width > box.x + box.width;
}).map((node) => node.textContent)"""
"""Nodes whose texts overlap or leave their box."""


def tree(*counts: int) -> list[dict[str, Any]]:
    """Turns of a tree with this many continuations in each round; the first round learns, the last has verdicts."""
    paths: list[list[int]] = [[]]
    turns = []
    for depth, count in enumerate(counts, start=1):
        paths = [[*path, place] for path in paths for place in range(count)]
        correct = 1.0 if depth == len(counts) else 0.5
        turns += [turn(path, (-1) ** path[0] * 0.5 if depth == 1 else None, correct=correct) for path in paths]
    return turns


@pytest.mark.parametrize("rounds", [3, 8])
def test_the_verdict_of_the_chosen_turn_is_seen_in_the_graph(
    anywhere: tuple[str, Browser], tmp_path: Path, kept: Path, rounds: int
) -> None:
    name, browser = anywhere
    browser.open(page_of(tmp_path, tree(2, *[1] * (rounds - 1))).as_uri())
    browser.screenshot(kept / f"rounds_{rounds}_{name}.png", whole=True)
    assert browser.evaluate(OVERLAPS) == []
    assert browser.evaluate(INSIDE)
    room = "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector('.frame'))"
    assert (browser.evaluate(room) == 0) == ((name, rounds) != ("phone", 8))
    browser.evaluate("document.querySelector('.node.chosen').focus()")
    for key in ("Home", "End"):
        browser.press(key)
        assert browser.evaluate(INSIDE)
    assert browser.evaluate("document.querySelector('.node.chosen').ariaLabel").startswith(
        "turn 2" + ".1" * (rounds - 1)
    )


def test_on_a_phone_a_tap_on_the_graph_shows_the_text_of_the_turn(phone: Browser, tmp_path: Path, kept: Path) -> None:
    phone.open(page_of(tmp_path, tree(8, 4)).as_uri())
    phone.click(".node[data-turn='20']")
    phone.screenshot(kept / "tapped_phone.png")
    assert phone.evaluate("document.querySelector('.node.chosen').dataset.turn") == "20"
    box = phone.evaluate("document.querySelector('.turn.chosen').getBoundingClientRect().toJSON()")
    assert box["top"] >= 0
    assert box["bottom"] < SCREENS["phone"][1] + 1
    assert phone.evaluate(INSIDE)


def test_typing_searches(browser: Browser, data: dict[str, Any]) -> None:
    words = data["rollouts"][0]["question"].partition(": ")[2]
    browser.press("/")
    for letter in words:
        browser.press(letter)
    browser.wait("location.hash.includes('words=')")
    expected = [one for one in data["rollouts"] if words in one["question"]]
    assert 0 < found(browser) == len(expected) < len(data["rollouts"])


Turns = Callable[[dict[str, Any]], bool]


@pytest.mark.parametrize(
    ("filters", "test"),
    [
        ({"result": "right"}, lambda turn: turn["correct"] == 1),
        ({"result": "wrong", "round": 2}, lambda turn: turn["correct"] == 0 and turn["round"] == 2),
        ({"few": 20, "many": 25}, lambda turn: 20 <= turn["tokens"] <= 25),
        ({"term": "outcome", "low": 0.1, "high": 0.6}, lambda turn: 0.1 <= turn["scores"].get("outcome", -1) <= 0.6),
        ({"few": 10**6}, lambda turn: False),
    ],
    ids=["correctness", "round", "length", "reward term", "none"],
)
def test_filters_select_rollouts(
    browser: Browser, data: dict[str, Any], filters: dict[str, str | int], test: Turns
) -> None:
    set_filters(browser, **filters)
    expected = sum(any(test(turn) for turn in one["turns"]) for one in data["rollouts"])
    assert found(browser) == expected
    browser.open(browser.evaluate("location.href"))  # the address holds the filters
    assert found(browser) == expected
    browser.evaluate("document.querySelector('[type=reset]').click()")
    browser.wait("location.hash === ''")
    assert found(browser) == len(data["rollouts"])


def test_a_rollout_opens_by_a_click_and_by_keys(browser: Browser, data: dict[str, Any]) -> None:
    browser.click(".rollout:nth-child(2) summary")
    browser.wait("list.children[1].querySelector('pre') !== null")
    assert browser.evaluate("list.children[1].querySelector('code').textContent") == data["rollouts"][1]["answer"]
    for key, place in (("j", 2), ("j", 3), ("k", 2)):
        browser.press(key)
        assert browser.evaluate("[...list.children].findLastIndex((one) => one.open)") == place
        assert browser.evaluate(f"document.activeElement === list.children[{place}].firstChild")
    browser.press("n")
    assert "page 2 of" in status(browser)
    browser.press("p")
    assert "page 1 of" in status(browser)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("easy, 1 round, before training", "A"), ("easy, 1 round, after training", "A")),
        (("easy, 1 round, after training", "A"), ("easy, 1 round, after training", "B")),
    ],
    ids=["before and after training", "two runs"],
)
def test_the_same_problem_is_compared(
    browser: Browser, data: dict[str, Any], left: tuple[str, str], right: tuple[str, str]
) -> None:
    here, there = (place_of(data, *place) for place in (left, right))
    set_filters(browser, place=here)
    browser.evaluate("list.children[2].open = true")
    question = browser.evaluate("list.children[2].querySelector('.problem').textContent")
    browser.wait("list.children[2].querySelector('select') !== null")
    browser.evaluate(
        f"{{const one = list.children[2].querySelector('select'); one.value = {there!r}; "
        "one.dispatchEvent(new Event('change'));}"
    )
    assert browser.evaluate("location.hash") == f"#place={here}&beside={there}"
    entry = "document.querySelector('.rollout[open]')"
    browser.wait(f"{entry}.querySelectorAll('.side pre').length > 1")
    assert browser.evaluate(f"{entry}.querySelector('.problem').textContent") == question
    sides = browser.evaluate(f"[...{entry}.querySelectorAll('.side > p')].map((one) => one.textContent)")
    assert [side.partition(":")[0] for side in sides] == [" · ".join(left), " · ".join(right)]
    texts = browser.evaluate(
        f"[...{entry}.querySelectorAll('.side')].map((one) => "
        "[...one.querySelectorAll('pre')].map((pre) => pre.textContent))"
    )
    assert texts == [
        [one["turns"][-1]["text"] for one in rollouts_of(data, place) if one["question"] == question]
        for place in (here, there)
    ]
    assert found(browser) == 2


@pytest.mark.parametrize(
    ("beside", "partner"),
    [
        (("easy, 1 round, after training", "B"), ("easy, 1 round, before training", "B")),
        (("hard, 1 round, before training", "A"), ("hard, 1 round, after training", "A")),
        (("training step", "A"), ("training step", "B")),
    ],
    ids=["after training", "before training", "training"],
)
def test_beside_alone_is_compared_with_one_place(
    browser: Browser, file: Path, data: dict[str, Any], beside: tuple[str, str], partner: tuple[str, str]
) -> None:
    right, left = place_of(data, *beside), place_of(data, *partner)
    browser.open(f"{file.as_uri()}#beside={right}")
    assert browser.evaluate("location.hash") == f"#place={left}&beside={right}"
    browser.wait("document.querySelectorAll('.side').length === 2")
    sides = browser.evaluate("[...document.querySelectorAll('.side > p')].map((one) => one.textContent)")
    assert [side.partition(":")[0] for side in sides] == [" · ".join(partner), " · ".join(beside)]
    common = {one["id"] for one in rollouts_of(data, left)} & {one["id"] for one in rollouts_of(data, right)}
    assert found(browser) == len(common)


def test_a_page_of_one_place_offers_no_comparison(desktop: Browser, tmp_path: Path) -> None:
    file = page_of(tmp_path, [turn([0], 0.5)])
    (place,) = data_of(file.read_text(encoding="utf-8"))["places"]
    desktop.open(f"{file.as_uri()}#beside={place['name']}")
    assert desktop.evaluate("form.elements.beside.disabled")
    assert status(desktop).startswith("4 of 4 rollouts")


def test_a_changed_address_filters_an_open_page(browser: Browser, data: dict[str, Any]) -> None:
    place = place_of(data, "training step", "B")
    for address, count in (
        (f"place={place}", len(rollouts_of(data, place))),
        ("", len(data["rollouts"])),
        (f"place={place}&few=9999", 0),
    ):
        browser.evaluate(f"location.hash = {address!r}")
        browser.wait(f"document.getElementById('status').textContent.startsWith('{count} of ')")


@pytest.mark.parametrize(
    "address", ["place=99", "length=5", "low=1", "result=changed", "round=99", "few=x", "\u202e=\u202e", "elements=1"]
)
def test_the_page_names_parts_of_the_address_that_it_ignores(
    browser: Browser, file: Path, data: dict[str, Any], address: str
) -> None:
    browser.open(f"{file.as_uri()}#words=&{address}&many=1000")
    told = browser.evaluate("document.getElementById('ignored').textContent")
    assert told == f"Ignored in the address: {address}"
    assert browser.evaluate("[...form.querySelectorAll('select')].every((one) => one.selectedIndex >= 0)")
    assert found(browser) == len(data["rollouts"])
    set_filters(browser, many=2000)
    assert browser.evaluate("document.getElementById('ignored').textContent") == ""


def test_filters_that_need_another_one_are_disabled(browser: Browser, data: dict[str, Any]) -> None:
    disabled = "[form.elements.low, form.elements.high, form.elements.result.querySelector('[value=changed]')]"
    assert browser.evaluate(f"{disabled}.map((one) => one.disabled)") == [True] * 3
    place = place_of(data, "easy, 1 round, before training", "A")
    beside = place_of(data, "easy, 1 round, after training", "A")
    set_filters(browser, place=place, beside=beside, term="format")
    assert browser.evaluate(f"{disabled}.map((one) => one.disabled)") == [False] * 3
    set_filters(browser, place=place, beside=beside, result="changed", term="format", low=0)
    browser.evaluate(
        "form.elements.beside.value = form.elements.term.value = ''; "
        "form.elements.term.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.wait(f"location.hash === '#place={place}'")
    assert browser.evaluate(f"{disabled}.map((one) => one.disabled)") == [True] * 3
    assert browser.evaluate("form.elements.result.value") == ""


def test_tokens_are_shaded_by_their_log_probs(browser: Browser, data: dict[str, Any]) -> None:
    place = place_of(data, "training step", "B")
    set_filters(browser, place=place)
    turns = rollouts_of(data, place)[0]["turns"]
    chosen = turns[int(browser.evaluate("document.querySelector('.node.chosen').dataset.turn"))]["pieces"]
    shown = browser.evaluate(
        "[...document.querySelectorAll('.turn.chosen .piece')].map((one) => [one.textContent, one.style.background])"
    )
    assert [text for text, _ in shown] == [text for text, _ in chosen]
    opacity = [float(style.rpartition(",")[2].rstrip(") ")) for _, style in shown]
    assert opacity == pytest.approx([0.55 * min(1, -logprob / 5) for _, logprob in chosen], abs=0.006)
    browser.click(".turn.chosen .piece:nth-child(3)")
    note = browser.evaluate("document.querySelector('.turn.chosen pre + p').textContent")
    assert note.startswith(f"token {json.dumps(chosen[2][0])}, probability ")


def test_arrow_keys_move_along_tokens(desktop: Browser, tmp_path: Path) -> None:
    pieces: list[Any] = [["a", -0.1], ["b", -0.2], ["given", None], ["c", -3.0]]
    desktop.messages.clear()
    desktop.open(page_of(tmp_path, [turn([0], 0.5, pieces=pieces)]).as_uri())
    desktop.evaluate("document.querySelector('.turn pre').focus()")
    for key, token in (
        *(("ArrowRight", "a"), ("ArrowRight", "b"), ("ArrowRight", "c"), ("ArrowRight", "c"), ("ArrowLeft", "b")),
        *(("Home", "a"), ("ArrowLeft", "a"), ("End", "c")),
    ):
        desktop.press(key)
        note = desktop.evaluate("document.querySelector('pre + p').textContent")
        assert note.startswith(f'token "{token}", probability ')
        assert desktop.evaluate("[...document.querySelectorAll('.piece.on')].map((one) => one.textContent)") == [token]
    assert desktop.evaluate("document.activeElement.tagName") == "PRE"
    assert desktop.evaluate("document.querySelectorAll('.turn [tabindex]').length") == 1
    assert desktop.messages == []


def test_the_sign_of_an_advantage_needs_no_colour(desktop: Browser, tmp_path: Path) -> None:
    turns = [turn([0], 0.5), turn([1], -0.25), turn([2], 0.0), turn([3], None)]
    desktop.open(page_of(tmp_path, turns).as_uri())
    texts, labels = (
        desktop.evaluate(f"[...document.querySelectorAll('.node')].map((one) => {what})")
        for what in ("one.querySelector('text').textContent", "one.ariaLabel")
    )
    assert texts == ["1+", "2\u2212", "3", "4"]
    said = ["advantage +0.50", "advantage \u22120.25", "advantage 0.00"]
    assert [label.rpartition(", ")[2] for label in labels] == [*said, "right"]
    desktop.evaluate("document.querySelectorAll('.node')[1].dispatchEvent(new MouseEvent('click'))")
    assert desktop.evaluate("document.querySelector('.advantage').textContent") == "advantage \u22120.25"


@pytest.mark.parametrize("focused", [".node.chosen", ".turn.chosen button"])
def test_a_resize_keeps_the_focus(desktop: Browser, tmp_path: Path, focused: str) -> None:
    desktop.open(page_of(tmp_path, tree(2, 2, 1)).as_uri())
    desktop.evaluate(f"document.querySelector('{focused}').focus()")
    before = desktop.evaluate("document.querySelector('.graph').clientWidth")
    try:
        desktop.resize(390, 1000)
        desktop.wait(f"document.querySelector('.graph').clientWidth !== {before}")
        assert desktop.evaluate(f"document.activeElement === document.querySelector('{focused}')")
    finally:
        desktop.resize(*SCREENS["desktop"])


@pytest.mark.parametrize("hostile", ["\u202eabc", "\u05d0\u05d1"], ids=["override", "Hebrew"])
def test_text_of_a_model_leaves_the_direction_of_the_page_alone(desktop: Browser, tmp_path: Path, hostile: str) -> None:
    turns = [turn([0], 0.5, pieces=[[hostile, -0.5]], scores={hostile: 1.0}, writer=hostile)]
    desktop.open(page_of(tmp_path, turns, id=hostile, answer=hostile).as_uri())
    after = """[...document.querySelectorAll(".chips > *, .carried")].flatMap((line) => {
      const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      const found = [];
      let seen = false;
      while (walker.nextNode()) {
        const text = walker.currentNode.data;
        if (walker.currentNode.parentElement.closest("bdi, code")) { seen = true; continue; }
        if (/[\\u0590-\\u05ff\\u202e]/.test(text)) found.push(`mixed: ${text}`);
        if (!seen || text.length < 2) continue;
        const [first, last] = [0, text.length - 1].map((at) => {
          const range = new Range();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, at + 1);
          return range.getBoundingClientRect().x;
        });
        found.push(first < last ? "forward" : `backward: ${text}`);
      }
      return found;
    })"""
    assert desktop.evaluate(after) == ["forward"] * 3  # problem, value of the reward term, probability of the token
    told = desktop.evaluate("document.querySelector('pre + p').textContent")
    assert ("\\u202e" in told) == (hostile[0] == "\u202e")
    assert "\u202e" not in told


def test_the_page_fits_its_window(anywhere: tuple[str, Browser], file: Path, data: dict[str, Any], kept: Path) -> None:
    name, browser = anywhere
    compared = {
        "place": place_of(data, "easy, 1 round, before training", "A"),
        "beside": place_of(data, "easy, 1 round, after training", "A"),
    }
    for view, filters in (
        ("list", {}),
        ("graph", {"place": place_of(data, "training step", "B")}),
        ("compared", compared),
    ):
        browser.open(f"{file.as_uri()}#{urlencode(filters)}")
        assert_fits(browser, SCREENS[name][0])
        browser.screenshot(kept / f"{view}_{name}.png", whole=True)
    browser.open(f"{file.as_uri()}#{urlencode({'place': place_of(data, 'training step', 'B')})}")
    browser.click(".node:nth-last-child(1)")
    assert browser.evaluate("document.querySelector('.node.chosen').dataset.turn") == "11"
    assert browser.messages == []


def test_many_reward_terms_with_long_names_fit(anywhere: tuple[str, Browser], tmp_path: Path, kept: Path) -> None:
    name, browser = anywhere
    terms = ["outcome", "format", "length", "overlong", "unrepetitive", "agreement", "x" * 40, "y" * 70]
    file = page_of(tmp_path, [turn([0], 0.5, scores=dict.fromkeys(terms, 0.25))])
    browser.open(file.as_uri())
    assert_fits(browser, SCREENS[name][0])
    chips = browser.evaluate("[...document.querySelectorAll('.turn .chips > *')].map((one) => one.textContent)")
    assert [f"{term} 0.25" for term in terms] == [chip for chip in chips if chip.endswith(" 0.25")]
    browser.screenshot(kept / f"terms_{name}.png", whole=True)


def test_text_of_a_model_stays_text(desktop: Browser, tmp_path: Path) -> None:
    hostile = (
        "</script><script>document.title = 'taken'</script><img src='http://127.0.0.1:9/' onerror='document.title=1'>"
        "<style>* {display: none}</style><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>"
        "<svg onload='document.title=2'><form action='http://127.0.0.1:9/'><button autofocus>"
        "&lt;&amp;\u2028\u202e{{ 7 * 7 }}"
    )
    run = fake_run(tmp_path / "runs" / "a", text=hostile, settings={"model": {"prompt": hostile}}, marks=[[1.0]])
    fake_run(tmp_path / "runs" / "b", settings={"model": {"prompt": "plain"}})
    for step in run.glob("rollouts/*.jsonl"):
        lines = list(read_jsonl(step))
        for one in lines[0]["turns"]:
            one |= {"pieces": [[hostile, -0.5]], "status": hostile, "writer": hostile, "scores": {hostile: 1.0}}
        write_jsonl(step, lines)
    file = written(tmp_path, tmp_path / "runs", steps=3)
    desktop.messages.clear()
    desktop.requests.clear()
    desktop.open(file.as_uri())
    assert desktop.evaluate("document.title") == "Rollouts"
    assert desktop.evaluate("document.querySelector('pre').textContent") == hostile
    assert (
        desktop.evaluate("document.querySelectorAll('img, iframe, meta[http-equiv=refresh], main style').length") == 0
    )
    assert desktop.evaluate("[...form.elements.term.options].some((one) => one.value.startsWith('</script>'))")
    assert desktop.messages == []
    assert desktop.requests == [file.as_uri()]


def test_the_browser_refuses_what_the_page_does_not_hold(browser: Browser) -> None:
    """Even a script of the page itself could send nothing: the policy forbids all requests."""
    refused = browser.evaluate("fetch('http://127.0.0.1:9/').then(() => false, () => true)")
    assert refused
    assert any("Content Security Policy" in one for one in browser.messages)
    browser.messages.clear()
    browser.requests.clear()


def test_ten_thousand_rollouts_stay_fast(desktop: Browser, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "runs" / "a")
    (tree, *_) = read_jsonl(run / "rollouts" / "step_000001.jsonl")
    for step in range(1, 101):
        trees = [
            {**tree, "problem": {**tree["problem"], "id": f"p{n}", "question": f"question {step}.{n}"}}
            for n in range(100)
        ]
        write_jsonl(run / "rollouts" / f"step_{step:06d}.jsonl", trees)
    file = written(tmp_path, tmp_path / "runs", steps=100, trees=100)
    desktop.messages.clear()
    desktop.open(file.as_uri())
    assert found(desktop) == 10_000
    for name, value, count in (
        ("words", "question 7.", 100),
        ("words", "", 10_000),
        ("round", "2", 10_000),
        ("few", "99", 0),
    ):
        took = desktop.evaluate(
            f"(() => {{ form.elements[{name!r}].value = {value!r}; const start = performance.now(); filter(); "
            "document.body.offsetHeight; return performance.now() - start; })()"
        )
        assert took < PATIENCE, name
        assert found(desktop) == count
    assert desktop.messages == []
