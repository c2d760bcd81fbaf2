"""The report page, on made-up reports: none of these figures was measured."""

import copy
import math
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from simulations.report.page import render

ATTACK = "<script>alert('$x_{$')</script>"
VOID = {"meta", "br"}


def person(number: int, user: str | None = None) -> dict[str, Any]:
    def arm(factor: float) -> dict[str, float]:
        perplexity = (90 + 37 * (number % 7)) * factor
        accuracy = 0.21 + 0.03 * (1 - factor)
        nll = math.log(perplexity)
        return {"perplexity": perplexity, "nll": nll, "next_token_accuracy": accuracy}

    return {
        "user": user or f"made-up-{number:04d}",
        "train": 1234 + number,
        "heldout": 17,
        **{name: arm(f) for name, f in zip(ARMS, (1, 0.74, 0.68, 0.81), strict=True)},
        "epsilon": 7.1 + 0.1 * (number % 8),
        "noise_multiplier": 1.37,
    }


ARMS = ("base", "shared", "personal", "local")


def made_up(users: int = 8, rounds: int = 6, abandoned: tuple[int, ...] = (3,)) -> dict[str, Any]:
    people = [person(number) for number in range(users)]
    means = {
        arm: {k: sum(p[arm][k] for p in people) / users for k in people[0][arm]} for arm in ARMS
    }
    return {
        "scenario": "made-up",
        "synthetic": True,
        "task": "chat",
        "model": "made-up-model-135M",
        "engine": "local",
        "seed": 4711,
        "users": users,
        "rounds": rounds,
        "sharing": "ffa",
        "version": "0.1.0",
        "settings": {"scenario": "made-up", "epsilon": 8.0, "server_rate": 0.625, "dp": True},
        "metrics": means,
        "intervals": {
            "shared_vs_base": [-71.5, -33.25] if users > 1 else None,
            "personal_vs_shared": [-20.5, -4.75] if users > 1 else None,
            "personal_vs_local": [-31.0, 2.5] if users > 1 else None,
        },
        "metric_names": {"primary": "perplexity", "better": "lower"},
        "per_user": people,
        "privacy": {
            "record": {
                "epsilon": 7.83, "delta": 1e-5, "noise_multiplier": 1.37, "max_grad_norm": 0.1,
            },
            "user": None,
        },
        "secure_aggregation": {
            "enabled": True, "threshold": 6, "neighbours": 7, "modulus_bits": 24, "dropped": 3,
            "upload_bytes_per_client_round": 31_234, "clipped_share": 0.0125, "cohort": users,
            "least_survivors": users - 2, "tolerated_corrupt": 1,
            "tolerated_colluding_neighbours": 1, "privacy_failure_log2": None,
            "abort_chance_log2": -20.5,
        },
        "rounds_log": [
            {
                "round": number,
                "status": "abandoned" if number in abandoned else "done",
                "cohort": users,
                "survivors": users - (number % 2) * (users > 3),
                "seconds": 4.5 + number % 3,
                "adapter_sha256": "ab" * 32,
            }
            for number in range(1, rounds + 1)
        ],
        "timing": {
            "seconds": 312.75, "train_tokens": 98_765, "train_tokens_per_second": 315.8,
            "peak_rss_mb": 1876.2,
        },
    }  # fmt: skip


@cache
def plain() -> str:
    return render(made_up())


class Page(HTMLParser):
    """The text outside plots, the tags, and the attributes that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.loads: list[str | None] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


@pytest.mark.parametrize(
    "figure",
    [
        "For 8 people, made-up-model-135M got better by learning together.",
        "26 % lower, better",
        "lower is better",
        "Against learning alone on each device, at 151.6: no significant change.",
        "ε = 7.83, δ = 0.00001 at record level",
        "31.2 kB sent by each device in a round",
        "between −71.50 and −33.25",
        "(one answer with the message before it)",
        "noise multiplier σ = 1.37",
        "5 of 6 rounds finished",
        "24 bits",
        "3 clients",
        "1.2 % of all numbers sent",
        "2 of 8 may drop out",
        "1 of 8 may work with the server; that they expose anybody: impossible, "
        "unless the server invents devices",
        "31,234 bytes",
        "nats/token",
        "1,234",  # training examples of the first person
        "316 tokens/s",
        "312.8 s",
        "1,876 MB",
        "4711",
        "0.625",  # a setting
        "synthetic data",
    ],
)
def test_a_figure_of_the_report_stands_on_the_page_with_its_unit(figure: str) -> None:
    assert figure in " ".join(Page(plain()).text.split())


def test_a_user_level_guarantee_that_was_not_used_is_said_to_be_so() -> None:
    assert "User levelnot used in this run" in Page(plain()).text


def test_a_user_level_guarantee_stands_beside_the_other() -> None:
    report = made_up()
    report["privacy"]["user"] = {
        "epsilon": 3.96, "delta": 1e-5, "noise_multiplier": 1.9, "clip_norm": 0.25,
    }  # fmt: skip
    text = " ".join(Page(render(report)).text.split())
    assert "ε = 7.83, δ = 0.00001 at record level and ε = 3.96, δ = 0.00001 at user level" in text
    assert "C = 0.25 (L2 norm of a whole update)" in text


def test_an_interval_that_holds_0_is_no_improvement() -> None:
    report = made_up()
    report["intervals"]["shared_vs_base"] = [-71.5, 0.5]
    page = Page(render(report))
    assert "shows no significant change from learning together" in page.text
    assert "shared adapter (no significant change)" in page.text
    assert "against the base model: no significant change, between −71.50 and +0.500" in page.text


def test_higher_can_be_better_and_shares_are_percentages() -> None:
    report = made_up()
    report["metric_names"] = {"primary": "next_token_accuracy", "better": "higher"}
    report["intervals"]["shared_vs_base"] = [0.004, 0.011]
    report["intervals"]["personal_vs_shared"] = [-0.02, -0.01]
    page = Page(render(report))
    assert "against the base model: better, between +0.4 percentage points" in page.text
    assert "against shared alone: worse" in page.text
    assert "went from 21.0 % (base) to 21.8 % with" in page.text


def test_names_are_text_and_never_markup_or_mathematics() -> None:
    report = made_up()
    for field in ("model", "scenario", "task", "engine", "version", "sharing", "seed"):
        report[field] = ATTACK
    report["settings"] = {ATTACK: ATTACK}
    report["per_user"] = [
        person(0, ATTACK), person(1, "$"), person(2, "\ud800\x00\n"), person(3, "李 🙂"),
        person(4, '" onload="x'),
    ]  # fmt: skip
    page = Page(render(report))
    render(report).encode()
    assert "script" not in page.tags
    assert ATTACK in page.text
    assert "李 🙂" in page.text


def test_without_differential_privacy_the_page_warns() -> None:
    report = made_up()
    report["privacy"] = {"record": None, "user": None}
    for entry in report["per_user"]:
        entry["epsilon"] = entry["noise_multiplier"] = None
    html = render(report)
    assert 'class="warn"' in html
    assert "What it cost: no differential privacy;" in Page(html).text
    assert 'class="warn"' not in plain()


def test_nothing_is_loaded_from_outside() -> None:
    html = plain()
    page = Page(html)
    assert page.loads
    assert all(load and load.startswith("#") for load in page.loads)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", html)


def test_plots_take_the_colours_of_the_page() -> None:
    drawn = re.findall(r"(?:fill|stroke): (#\w+)", plain())
    assert drawn == []


def test_the_same_report_gives_the_same_bytes() -> None:
    report = made_up()
    before = copy.deepcopy(report)
    first = render(report)
    assert report == before
    assert render(before) == first


@pytest.mark.parametrize("users", [1, 2, 60, 1000])
def test_any_number_of_people(users: int) -> None:
    html = render(made_up(users))
    rows = html.split('class="people"')[1].count("<bdi>")
    assert rows == min(users, 60)
    assert ("The first 60 of 1,000 people" in html) == (users == 1000)
    assert ("too few people" in html) == (users == 1)
    assert len(html) < 500_000


def test_no_round_was_finished() -> None:
    report = made_up(rounds=4, abandoned=(1, 2, 3, 4))
    for arm in ("shared", "base"):
        report["metrics"][arm]["perplexity"] = 132.1
    report["intervals"]["shared_vs_base"] = [0.0, 0.0]
    report["secure_aggregation"]["upload_bytes_per_client_round"] = 0
    page = Page(render(report))
    assert "learnt nothing together: no round was finished" in page.text
    assert "0 of 4 rounds finished; 4 abandoned" in page.text
    assert "No round took place" in Page(render(report | {"rounds_log": []})).text


def test_figures_that_are_missing_or_infinite_are_dashes() -> None:
    report = made_up(2)
    report["per_user"][0]["base"]["perplexity"] = math.inf
    report["metrics"]["base"]["perplexity"] = math.nan
    assert "went from – (base)" in Page(render(report)).text


def test_tables_of_kinds_are_shown_where_there_are_such() -> None:
    report = made_up()
    assert "Kind by kind" not in render(report)
    row = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8}
    rows = [row | {"kind": kind} for kind in ("<PER>", "micro", "macro")]
    report["tables"] = {arm: {"entities": rows} for arm in ("base", "shared", "personal", "local")}
    page = render(report)
    assert "Kind by kind: entities" in page
    assert "&lt;PER&gt;" in page and "<PER>" not in page
    assert page.index("micro") < page.index("macro")
    assert page.count("33.3") >= 9
