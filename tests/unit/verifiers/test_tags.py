"""Reading what a model wrote, whatever it wrote."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.verifiers.tags import TAGS, boxed, progress, stated_answer, well_formed

GOOD = "<reasoning>1+1=2</reasoning><answer>\\boxed{2}</answer>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, "\\boxed{2}"),
        ("<answer>a</answer> then <answer> b </answer>", "b"),
        ("no tag at all ", "no tag at all"),
        ("only the end </answer> and more", "only the end"),
        ("x <answer>unclosed", "unclosed"),
        ("<answer>one</answer><answer>", ""),
        ("", ""),
    ],
)
def test_progress(text: str, expected: str) -> None:
    assert progress(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{2}", "2"),
        ("\\boxed{1} or \\boxed{ 3 }", "3"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{5} and \\boxed{6", "5"),
        ("\\boxed{", None),
        ("boxed{4}", None),
        ("\\boxed{}", ""),
        ("\\boxed{a}}}", "a"),
        ("", None),
    ],
)
def test_boxed(text: str, expected: str | None) -> None:
    assert boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, "2"),
        ("\\boxed{9} <answer>\\boxed{2}</answer>", "2"),
        ("<answer>\\boxed{2}</answer> \\boxed{9}", "2"),
        ("\\boxed{9} <answer>nine</answer>", None),
        ("<reasoning>\\boxed{8}</reasoning> \\boxed{9}", "9"),
        ("<reasoning>\\boxed{8}</reasoning>", None),
        ("<reasoning>\\boxed{8}", None),
        ("<answer>9</answer>\\boxed{8}", None),
        ("<answer>\\boxed{9} % \\boxed{8}\n</answer>", "9"),
        ("<answer>so 50% is right: \\boxed{50\\%}</answer>", "50\\%"),
        ("<answer>\\boxed{62.5%}</answer>", "62.5%"),
        ("<answer>\\boxed{9}</answer> <!-- <answer>\\boxed{8}</answer> -->", "9"),
        ("<answer><answer>\\boxed{8}</answer>\\boxed{9}</answer>", "9"),
        ("<answer>\\boxed{8}</answer><answer>\\boxed{9}</answer>", "9"),
        ("<answer>\\boxed{\\text{not } \\boxed{8}}</answer>", "\\text{not } \\boxed{8}"),
        ("<answer>9</answer>", None),
    ],
)
def test_the_answer_block_is_read_first(text: str, expected: str | None) -> None:
    assert stated_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, True),
        (" <reasoning>\n</reasoning>\n\n<answer></answer>\n", True),
        (GOOD + "!", False),
        ("so: " + GOOD, False),
        (GOOD.replace("<answer>", "and <answer>"), False),
        (GOOD + GOOD, False),
        (GOOD.removesuffix("</answer>"), False),
        ("<answer></answer><reasoning></reasoning>", False),
        ("<reasoning><answer></reasoning></answer>", False),
        ("", False),
    ],
)
def test_well_formed(text: str, expected: bool) -> None:
    assert well_formed(text) is expected


PIECES = st.sampled_from([*TAGS, "\\boxed{", "{", "}", "\\", "\n", "\x00", "7", " "])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_no_text_raises(text: str) -> None:
    answer = stated_answer(text)
    assert answer is None or answer in text
    assert progress(text) in text
    assert well_formed(text) in (True, False)


@pytest.mark.parametrize(
    "text", ["\\boxed{" * 30000, "\\boxed{{" * 30000 + "}" * 30000, "<answer>" * 30000, "{" * 200000]
)
def test_hostile_lengths_take_no_time(text: str) -> None:
    assert well_formed(text) is False
    assert len(progress(text)) <= len(text)
    assert stated_answer(text) is None or "{" in text


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 30000,
        "\\boxed{{" * 20000 + "}" * 19999,
        "{" * 100_000 + "}" * 100_000 + "\\boxed{",
        "<answer>" * 25000,
        "<answer></answer>" * 12000,
        "<" * 200_000,
        "\\boxed" * 33000,
        "<answer>" + "\\boxed{x" * 25000,
    ],
    ids=lambda text: text[:17],
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    begin = time.process_time()
    for read in (progress, boxed, stated_answer, well_formed):
        read(text)
    assert time.process_time() - begin < 1


NESTED = st.recursive(st.text("a7 \n", max_size=3), lambda inside: st.lists(inside, max_size=3).map("{{{}}}".join))
SURROUNDING = st.text().filter(lambda text: not any(mark in text for mark in ("\\boxed{", "<", "%", "{", "}")))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed {5}", "5"),
        (r"\fbox{5}", "5"),
        ("\\boxed\n{5}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \\ -x \right.}", r"\left\{ x \\ -x \right."),
        (r"\boxed{1 \\}", r"1 \\"),
        (r"\boxed{5\}", None),
        (r"\boxer{5}", None),
    ],
)
def test_forms_of_a_box_and_braces_in_it(text: str, content: str | None) -> None:
    assert boxed(text) == stated_answer(text) == content


@settings(max_examples=200, deadline=None)
@given(SURROUNDING, st.lists(NESTED, max_size=3), SURROUNDING)
def test_a_balanced_box_is_found_in_any_surrounding(before: str, parts: list[str], after: str) -> None:
    content = "".join(f"{{{part}}}" if part.count("{") == part.count("}") else "" for part in parts)
    text = f"{before} \\boxed{{{content}}} {after}"
    assert boxed(text) == stated_answer(text) == content.strip()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec=None, categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])))
def test_control_characters_and_surrogates_are_text_like_any_other(text: str) -> None:
    written = f"<reasoning>{text}</reasoning><answer>\\boxed{{{text}}}</answer>"
    assert well_formed(written) is True
    assert stated_answer(written) == text.strip()
