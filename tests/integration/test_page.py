"""The page of rollouts in a headless Chromium; skipped where none is installed."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from urllib.parse import urlencode

import pytest

from src.reporting.pages import page
from src.reporting.runs import grouped, read_run
from tests.conftest import run_small

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    run = run_small(folder / "run", "experiment=spiral", "train.steps=1", "train.log_tokens=true")
    file = folder / "rollouts.html"
    file.write_text(page(grouped([read_run(run)]), steps=1, trees=2, problems=2), encoding="utf-8")
    return file.as_uri()


def shown(address: str, **filters: str | int) -> str:
    """The page's elements after its script ran with some filters; fails on a message in the console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    command += ["--enable-logging=stderr", "--dump-dom", f"{address}#{urlencode(filters)}"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout.partition('id="list"')[2].partition("<script")[0]


def test_a_graph_has_a_node_for_each_turn_and_one_place_in_the_order_of_the_keyboard(address: str) -> None:
    seen = shown(address, place=0)
    nodes = re.findall(r'<g class="node[^>]*aria-label="([^"]*)"', seen)
    assert len(nodes) == 4 + 4 * 2
    assert re.search(r"turn 1\.1, quotes \d, \d, \d, \d, (right|wrong)", nodes[4])
    assert seen.count('tabindex="0" role="button"') == 1
    assert seen.count('class="joint') == 4
    assert 'class="piece" title="probability ' in seen


def test_two_sets_of_answers_are_shown_side_by_side(address: str) -> None:
    seen = html.unescape(shown(address, place=1, beside=2))
    assert seen.count('class="side"') == 2
    assert "before training" in seen
    assert "after training" in seen


def test_filters_select_rollouts(address: str) -> None:
    assert '<details class="rollout"' not in shown(address, few=10**6)
    assert '<details class="rollout"' in shown(address, round=2, term="outcome", low=0, many=10**6)
