"""`report.html`: one report (docs/DESIGN.md, section 6) as one page that loads nothing.

Plots are inline SVG whose colours are the page's CSS variables, so that light, dark and paper share
one drawing. Names of people, models and folders are untrusted text: all of it is escaped, and the
page's own policy forbids scripts and loads. The same report gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from html import escape
from statistics import median
from typing import Any

ARMS = {  # arm: word, mark in the text, mark in the plot, what it is
    "base": ("base", "●", "o", "the model as published"),
    "shared": ("shared", "■", "s", "base + the adapter learnt together"),
    "personal": ("personal", "▲", "^", "shared + an adapter that never leaves the device"),
    "local": ("local", "◆", "D", "base + such an adapter alone, nothing learnt together"),
}
PAIRS = {
    "shared_vs_base": ("shared", "base", "Learning together, against the base model"),
    "personal_vs_shared": ("personal", "shared", "A personal adapter on top, against shared alone"),
    "personal_vs_local": ("personal", "local", "All of it, against learning alone on the device"),
}
MEANING = {
    "perplexity": "Perplexity: between how many next tokens the model is, in effect, undecided.",
    "accuracy": "Accuracy: the share of examples that the model gets right.",
    "f1": "F1: how many of the marked words are right and how many of the right ones are marked.",
    "ndcg@10": "NDCG@10: how far up in the first ten suggestions the liked ones stand, 0 to 1.",
}
PERCENT = ("accuracy", "f1", "recall", "precision")
TOLD = ("base", "shared", "personal")
BETTER, WORSE = "better", "worse"
UNCHANGED, UNKNOWN = "no significant change", "too few people to tell"
ROWS, NAMES = 60, 30  # most people in table and plot; most whose names are written in the plot
WIDTH_IN = 5.6
COLORS = {  # drawn colour: CSS variable that replaces it
    "#010101": "ink", "#020202": "muted", "#030303": "line", "#040404": "page", "#050505": "bad",
    "#060601": "base", "#060602": "shared", "#060603": "personal", "#060604": "local",
}  # fmt: skip
INK = {name: color for color, name in COLORS.items()}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "privity", "font.size": 8, "axes.titlesize": 8,
    "axes.titlelocation": "left", "axes.titlecolor": INK["muted"], "axes.axisbelow": True,
    "axes.edgecolor": INK["line"], "axes.labelcolor": INK["muted"], "text.color": INK["ink"],
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": INK["line"], "ytick.color": INK["line"], "grid.color": INK["line"],
    "xtick.labelcolor": INK["muted"], "ytick.labelcolor": INK["muted"], "grid.linewidth": 0.5,
    "xtick.minor.size": 0, "ytick.major.size": 0, "lines.markersize": 5, "figure.dpi": 72,
}  # fmt: skip

CSS = """
:root{color-scheme:light dark;--page:#fdfdfb;--card:#f4f5f1;--ink:#1d2422;--muted:#5d6763;
--line:#d5dad6;--bad:#a8331f;--badcard:#fbece7;--base:#7d8783;--shared:#2c6fb3;--personal:#17795b;
--local:#b9770e}
@media screen and (prefers-color-scheme:dark){:root{--page:#131716;--card:#1c2220;--ink:#e7ece9;
--muted:#9da8a3;--line:#343d39;--bad:#ff9a80;--badcard:#3a211a;--base:#98a39e;--shared:#6fb1f0;
--personal:#55c79c;--local:#e8b04f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);overflow-wrap:anywhere;
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:58rem;margin:0 auto;padding:3.5rem 1.25rem 5rem}
p,ul{max-width:44rem;margin:.6rem 0}
h1{font-size:clamp(1.75rem,4.6vw,2.7rem);line-height:1.17;letter-spacing:-.022em;font-weight:650;
margin:.6rem 0 1.1rem;text-wrap:balance}
h2{font-size:1.3rem;letter-spacing:-.01em;line-height:1.3;margin:0 0 .5rem}
h3{font-size:1rem;margin:0 0 .3rem}
section{margin-top:3.25rem;padding-top:1.75rem;border-top:1px solid var(--line)}
.lead{font-size:1.12rem}.note{color:var(--muted);font-size:.9rem}
.over{color:var(--muted);font-size:.85rem;margin:0}
.tag{background:var(--card);border:1px solid var(--line);border-radius:9px;padding:.1rem .5rem;
color:var(--ink);white-space:nowrap}
.warn{background:var(--badcard);border-left:4px solid var(--bad);border-radius:6px;
padding:.8rem 1.1rem;margin:1.4rem 0;max-width:44rem}.warn strong{color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.4rem),1fr));gap:.8rem;
margin:1.6rem 0}.two{grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))}
.card{background:var(--card);border-radius:12px;padding:1rem 1.15rem}
.card b{display:block;font-size:1.5rem;line-height:1.25;font-weight:620;letter-spacing:-.01em}
.card span{color:var(--muted);font-size:.88rem;display:block}.card p{font-size:.95rem}
figure{margin:1.2rem 0;max-width:42rem}figure svg{width:100%;height:auto;display:block;
overflow:visible}svg text{font-family:inherit!important}
figcaption{color:var(--muted);font-size:.88rem;margin-top:.5rem}
.legend{list-style:none;padding:0;font-size:.92rem}.legend span{display:inline-block;width:1.3em}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
th,td{padding:.42rem .8rem .42rem 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}
th{font-weight:600}thead th{color:var(--muted);font-size:.85rem}
th:first-child,td:first-child{text-align:left;padding-right:1.4rem}
.people{font-size:.84rem}.people tbody th{font-weight:500;max-width:11rem;overflow:hidden;
text-overflow:ellipsis;position:sticky;left:0;background:var(--page)}
.group{text-align:center;padding-left:.8rem}
.facts td{text-align:left;white-space:normal}.facts th{font-weight:500;color:var(--muted)}
summary{cursor:pointer;font-weight:600}
.base{color:var(--base)}.shared{color:var(--shared)}.personal{color:var(--personal)}
.local{color:var(--local)}
@media(max-width:34rem){main{padding-top:1.75rem}svg text{font-size:10.5px!important}
th+th,td{white-space:normal}.people th,.people td{white-space:nowrap}
.people tbody th{max-width:7rem}}
@media print{:root{--page:#fff}main{padding:0;max-width:none}
section{margin-top:1.5rem;padding-top:1rem}
figure,.card,.warn,.means,tr{break-inside:avoid}h2,h3{break-after:avoid}.wide{overflow:visible}
.people,.people thead th{font-size:.6rem}.people th,.people td{padding-right:.35rem}}
"""


def render(report: dict[str, Any]) -> str:
    """The page for one `report.json`: complete HTML, nothing loaded, no script.

    The same report gives the same text. Works for any number of people and rounds, with abandoned
    rounds, and without differential privacy, which it then says first.
    """
    parts = (_top, _people_plot, _means, _rounds, _privacy, _sums, _people_table, _settings)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Privity report: {_text(report['model'])}, {_people(report)}</title>"
        f"<style>{CSS}</style></head><body><main>\n"
        + "\n".join(part(report) for part in parts)
        + "\n</main></body></html>\n"
    )


# --- sections, in the page's order ---


def _top(report: dict[str, Any]) -> str:
    over = f"Privity · simulation report · {_text(report['task'])} · {_text(report['scenario'])}"
    if report.get("synthetic"):
        over += ' <span class="tag">synthetic data</span>'
    primary, better = report["metric_names"]["primary"], report["metric_names"]["better"]
    return (
        f'<header><p class="over">{over}</p><h1>{_headline(report)}</h1>'
        f'<p class="lead">{_lead(report)}</p><p class="lead">{_cost(report)}</p>'
        f"{_warnings(report)}{_tiles(report)}"
        f'<p class="note">{MEANING.get(primary, "")} {_text(better).capitalize()} is better. '
        f"Means over {_people(report)}, on examples kept out of training.</p></header>"
    )


def _headline(report: dict[str, Any]) -> str:
    who = f"For {_people(report)}, {_text(report['model'])}"
    if not _finished(report):
        return f"{who} learnt nothing together: no round was finished."
    endings = {
        BETTER: " got better by learning together.",
        WORSE: " got worse by learning together.",
        UNCHANGED: " shows no significant change from learning together.",
        UNKNOWN: ": too few people to tell progress from chance.",
    }
    return who + endings[_verdict(report, "shared_vs_base")]


def _lead(report: dict[str, Any]) -> str:
    primary = report["metric_names"]["primary"]
    base, shared, personal = (_value(primary, _mean(report, arm)) for arm in TOLD)
    return (
        f"Mean {_label(primary)} went from <strong>{base}</strong> (base) to "
        f"<strong>{shared}</strong> with the shared adapter ({_change(report, 'shared_vs_base')}) "
        f"and to <strong>{personal}</strong> with a personal adapter on top "
        f"({_change(report, 'personal_vs_shared')}). Against learning alone on each device, at "
        f"{_value(primary, _mean(report, 'local'))}: {_change(report, 'personal_vs_local')}."
    )


def _cost(report: dict[str, Any]) -> str:
    spent = [
        f"ε = {kind['epsilon']:.2f}, δ = {_delta(kind)} at {level} level"
        for level in ("record", "user")
        if (kind := report["privacy"].get(level))
    ]
    privacy = " and ".join(spent) or "<strong>no differential privacy</strong>"
    return f"What it cost: {privacy}; {_sent(report)} sent by each device in a round."


def _warnings(report: dict[str, Any]) -> str:
    boxes = ""
    if not any(report["privacy"].values()):
        boxes += _warning(
            "No differential privacy.",
            "The shared adapter may remember what people wrote, and whoever gets it may find that "
            "out. Not a setting for real people.",
        )
    if not report["secure_aggregation"]["enabled"]:
        boxes += _warning("No secure aggregation.", "The server saw every device's update.")
    return boxes


def _tiles(report: dict[str, Any]) -> str:
    primary, record = report["metric_names"]["primary"], report["privacy"]["record"]
    tiles = [(_value(primary, _mean(report, arm)), f"{_label(primary)}, {arm}") for arm in TOLD]
    if record:
        tiles.append((f"ε {record['epsilon']:.2f}", f"δ {_delta(record)}, record level"))
    else:
        tiles.append(("ε none", "no differential privacy at record level"))
    tiles.append((_sent(report), "per device and round"))
    cards = (f'<div class="card"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    return f'<div class="cards">{"".join(cards)}</div>'


def _people_plot(report: dict[str, Any]) -> str:
    name = report["metric_names"]["primary"]
    people = report["per_user"]
    ranked = sorted(people, key=lambda person: _last_if_missing(person["base"].get(name)))
    shown = _spread(ranked, ROWS)
    chosen = "People in"
    if len(shown) < len(ranked):
        chosen = f"{len(shown)} of {_people(report)}, evenly spread over the"
    log = _needs_log([person[arm].get(name) for person in shown for arm in ARMS])
    svg = _svg(0.5 + len(shown) * (0.3 if len(shown) <= NAMES else 0.13),
               lambda figure: _draw_people(figure.subplots(), shown, name, log))  # fmt: skip
    legend = "".join(
        f'<li><span class="{arm}" aria-hidden="true">{mark}</span><b>{word}</b>: {what}</li>'
        for arm, (word, mark, _, what) in ARMS.items()
    )
    return _section(
        "Person by person",
        f'<ul class="legend">{legend}</ul><figure>{svg}<figcaption>Held-out {_label(name)}'
        f"{_axis_unit(name)}{', logarithmic scale' if log else ''}; "
        f"{_text(report['metric_names']['better'])} is better. {chosen} order of their base "
        "model's figure.</figcaption></figure>",
    )


def _means(report: dict[str, Any]) -> str:
    names = [name for name, value in report["metrics"]["base"].items() if _is_number(value)]
    head = _cells(["", *(f"{_label(name)}{_axis_unit(name)}" for name in names)], "th")
    body = "".join(
        f'<tr><th><span class="{arm}" aria-hidden="true">{mark}</span> {word}</th>'
        + _cells(_value(name, report["metrics"][arm].get(name), unit=False) for name in names)
        + "</tr>"
        for arm, (word, mark, _, _) in ARMS.items()
    )
    findings = "".join(f"<li>{_finding(report, pair)}</li>" for pair in PAIRS)
    return _section(
        "Means and differences",
        f'<div class="wide"><table class="means"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><ul>{findings}</ul>"
        f'<p class="note">Differences of {_label(report["metric_names"]["primary"])}, paired '
        "person by person; 95 % interval of the mean. A change counts as significant when the "
        "interval leaves out 0.</p>",
    )


def _finding(report: dict[str, Any], pair: str) -> str:
    title, verdict = PAIRS[pair][2], _verdict(report, pair)
    interval = report["intervals"].get(pair)
    if interval is None:
        return f"{title}: <strong>{verdict}</strong>."
    name = report["metric_names"]["primary"]
    low, high = (_difference(name, bound) for bound in interval)
    return f"{title}: <strong>{verdict}</strong>, between {low} and {high}."


def _rounds(report: dict[str, Any]) -> str:
    log = report["rounds_log"]
    if not log:
        return _section("Rounds", "<p>No round took place.</p>")
    done = _finished(report)
    words = f"{done} of {len(log)} rounds finished"
    if done < len(log):
        words += f"; {len(log) - done} abandoned (×): too few devices stayed, nothing was revealed"
    svg = _svg(2.9, lambda figure: _draw_rounds(figure.subplots(2, 1, sharex=True), log))
    seconds = median(entry["seconds"] for entry in log)
    return _section(
        "Rounds",
        f"<p>{words}. Median {seconds:,.1f} s a round.</p><figure>{svg}<figcaption>Above: devices "
        "asked (pale) and devices whose update is in the sum (solid). Below: seconds per round."
        "</figcaption></figure>",
    )


def _privacy(report: dict[str, Any]) -> str:
    record, user = report["privacy"]["record"], report["privacy"].get("user")
    example = "one example"
    if report["task"] == "chat":
        example += " (one answer with the message before it)"
    cards = _guarantee(
        "Record level", record,
        f"This level is about {example} on its device, and holds against everybody: the server, "
        "other devices, whoever gets the adapter. Copies on other people's devices are theirs.",
    ) + _guarantee(
        "User level", user,
        "This level is about everything that one person contributed, all examples together, and "
        "what the server can tell of it from the sum it sees.",
    )  # fmt: skip
    return _section(
        "Privacy",
        "<p>Differential privacy bounds how far one contribution can show in what leaves the "
        "device: ε bounds it, δ is the small chance that the bound does not hold. Smaller is "
        f'safer.</p><div class="cards two">{cards}</div>{_epsilons(report)}',
    )


def _guarantee(title: str, spent: dict[str, Any] | None, meaning: str) -> str:
    if not spent:
        return (
            f'<div class="card"><h3>{title}</h3><b>not used in this run</b>'
            f"<p>{meaning} This run makes no such promise.</p></div>"
        )
    facts = [f"noise multiplier σ = {_plain(spent.get('noise_multiplier'))} (× clipping bound)"]
    if spent.get("max_grad_norm") is not None:
        facts.append(f"clipping bound C = {spent['max_grad_norm']:g} (L2 norm of a gradient)")
    odds = math.exp(min(spent["epsilon"], 700.0))
    factor = f"{odds:,.2f}" if odds < 10 else f"{odds:,.0f}" if odds < 1e6 else f"{odds:.1e}"
    return (
        f'<div class="card"><h3>{title}</h3><b>ε = {spent["epsilon"]:.2f}</b>'
        f"<span>at δ = {_delta(spent)}, the whole run</span><p>{meaning}</p>"
        f"<p>Seeing the result changes the odds of guessing whether it took part by at most a "
        f"factor of {factor} (e<sup>ε</sup>).</p><span>{'; '.join(facts)}</span></div>"
    )


def _epsilons(report: dict[str, Any]) -> str:
    spent = sorted(
        person["epsilon"]
        for person in report["per_user"]
        if not math.isnan(_finite(person["epsilon"]))
    )
    if not spent:
        return ""
    budget = report["settings"].get("epsilon")
    words = f"ε per person: {spent[0]:.2f} to {spent[-1]:.2f}, median {median(spent):.2f}"
    if _is_number(budget):
        words += f"; budget {budget:g} (dashed)"
    svg = _svg(1.5, lambda figure: _draw_epsilons(figure.subplots(), spent, budget))
    return (
        f"<h3>What each person spent</h3><figure>{svg}<figcaption>{words}. People in order of "
        "ε, which has no unit.</figcaption></figure>"
    )


def _sums(report: dict[str, Any]) -> str:
    facts = report["secure_aggregation"]
    if not facts["enabled"]:
        return _section("Secure aggregation", "<p>Off: the server saw every device's update.</p>")
    rows = (
        ("Neighbours", f"{facts['neighbours']:,} devices hold the shares of each device's keys"),
        ("Threshold", f"{facts['threshold']:,} of them must answer to unmask the sum"),
        ("Modulus", f"{facts['modulus_bits']} bits for each masked number"),
        ("Dropped", f"{_count(facts['dropped'], 'client', 'clients')} left during finished rounds"),
        ("Upload", f"{_sent(report)} ({facts['upload_bytes_per_client_round']:,} bytes) of each "
         "client in a round, all messages"),
    )  # fmt: skip
    return _section(
        "Secure aggregation",
        "<p>The server sees the sum of the masked updates, never one device's own.</p>"
        + _facts(rows),
    )


def _people_table(report: dict[str, Any]) -> str:
    names = [name for name, value in report["metrics"]["base"].items() if _is_number(value)]
    groups = "".join(
        f'<th colspan="{len(ARMS)}" class="group">{_label(name)}{_axis_unit(name)}</th>'
        for name in names
    )
    arms = "".join(f"<th>{arm}</th>" for arm in ARMS) * len(names)
    head = (
        '<tr><th rowspan="2">person</th><th rowspan="2">train<br>examples</th>'
        '<th rowspan="2">held-out<br>examples</th>'
        f'{groups}<th rowspan="2">ε</th><th rowspan="2">σ</th></tr><tr>{arms}</tr>'
    )
    people = report["per_user"][:ROWS]
    hidden = len(report["per_user"]) - len(people)
    note = f"The first {ROWS} of {_people(report)}; {hidden:,} more in report.json. "
    return _section(
        "Everybody",
        f'<p class="note">{note if hidden else ""}ε and σ (noise multiplier) have no unit; '
        "σ is that of the last round.</p>"
        f'<div class="wide"><table class="people"><thead>{head}</thead><tbody>'
        f"{''.join(_person_row(person, names) for person in people)}</tbody></table></div>",
    )


def _person_row(person: dict[str, Any], names: Sequence[str]) -> str:
    cells = [f"{person['train']:,}", f"{person['heldout']:,}"]
    cells += [_value(name, person[arm].get(name), unit=False) for name in names for arm in ARMS]
    cells += [_plain(person["epsilon"]), _plain(person["noise_multiplier"])]
    user = _text(person["user"])
    return f'<tr><th title="{user}"><bdi>{user}</bdi></th>{_cells(cells)}</tr>'


def _settings(report: dict[str, Any]) -> str:
    timing = report["timing"]
    rows = (
        ("Time", f"{timing['seconds']:,.1f} s"),
        ("Trained on", f"{timing['train_tokens']:,.0f} tokens, "
         f"{timing['train_tokens_per_second']:,.0f} tokens/s"),
        ("Most memory", f"{timing['peak_rss_mb']:,.0f} MB"),
        ("Engine", _text(report["engine"])),
        ("Sharing", _text(report["sharing"])),
        ("Seed", _text(report["seed"])),
        ("Version", f"Privity {_text(report['version'])}"),
    )  # fmt: skip
    settings = [(_text(name), _text(value)) for name, value in report["settings"].items()]
    return _section(
        "How it was run",
        f"{_facts(rows)}<details><summary>All {len(settings)} settings</summary>"
        f"{_facts(settings)}</details>",
    )


# --- plots ---


def _svg(height_in: float, draw: Callable[[Any], None]) -> str:
    """What `draw` puts on a figure, as inline SVG in the page's own colours."""
    import matplotlib
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names in scripts that its own font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    return re.sub(r"(fill|stroke): (#0[0-9]{5})\b", _variable, svg)


def _variable(match: re.Match[str]) -> str:
    name = COLORS.get(match[2])
    return f"{match[1]}: var(--{name})" if name else match[0]


def _draw_people(axes: Any, people: Sequence[dict[str, Any]], name: str, log: bool) -> None:
    """One row a person: the four arms' figures on a line."""
    rows = range(len(people), 0, -1)
    values = {arm: [_finite(person[arm].get(name)) for person in people] for arm in ARMS}
    ends = list(zip(*values.values(), strict=True))
    axes.hlines(rows, [min(four) for four in ends], [max(four) for four in ends],
                color=INK["line"], linewidth=1.5)  # fmt: skip
    for arm, (_, _, marker, _) in ARMS.items():
        axes.plot(values[arm], rows, marker, color=INK[arm], markeredgecolor=INK["page"],
                  markeredgewidth=0.6)  # fmt: skip
    if log:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: _tick(name, value))
    axes.grid(axis="x")
    names = [_short(person["user"]) for person in people] if len(people) <= NAMES else []
    axes.set_yticks(list(rows)[: len(names)], names, parse_math=False, color=INK["ink"])
    axes.set_ylim(0.4, len(people) + 0.6)


def _draw_rounds(panels: Any, log: Sequence[dict[str, Any]]) -> None:
    devices, seconds = panels
    rounds = [entry["round"] for entry in log]
    done = [entry["survivors"] if entry["status"] == "done" else 0 for entry in log]
    lost = [entry for entry in log if entry["status"] != "done"]
    devices.bar(rounds, [entry["cohort"] for entry in log], color=INK["line"], width=0.7)
    devices.bar(rounds, done, color=INK["shared"], width=0.7)
    devices.plot([entry["round"] for entry in lost], [entry["cohort"] / 2 for entry in lost], "x",
                 color=INK["bad"], markeredgewidth=1.8, markersize=7)  # fmt: skip
    devices.set_title("devices")
    seconds.bar(rounds, [entry["seconds"] for entry in log], color=INK["muted"], width=0.7)
    seconds.set_title("seconds")
    seconds.set_xlabel("round")
    seconds.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    for axes in panels:
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.grid(axis="y")
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
    seconds.xaxis.get_major_locator().set_params(integer=True)
    devices.yaxis.get_major_locator().set_params(integer=True)


def _draw_epsilons(axes: Any, spent: Sequence[float], budget: Any) -> None:
    axes.plot(range(1, len(spent) + 1), spent, "o-" if len(spent) <= ROWS else "-",
              color=INK["shared"], linewidth=1.2, markersize=3.5)  # fmt: skip
    if _is_number(budget):
        axes.axhline(budget, color=INK["muted"], linewidth=1, linestyle="--")
    axes.set_title("ε")
    axes.set_xlabel("people")
    axes.set_ylim(0, max(*spent, budget if _is_number(budget) else 0, 0.1) * 1.15)
    axes.locator_params(axis="y", nbins=4)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")


# --- figures and words ---


def _verdict(report: dict[str, Any], pair: str) -> str:
    """What a 95 % interval says: a change counts only when 0 lies outside."""
    interval = report["intervals"].get(pair)
    if interval is None:
        return UNKNOWN
    low, high = interval
    if not (low > 0 or high < 0):
        return UNCHANGED
    return BETTER if (high < 0) == (report["metric_names"]["better"] == "lower") else WORSE


def _change(report: dict[str, Any], pair: str) -> str:
    verdict = _verdict(report, pair)
    after, before = (_mean(report, arm) for arm in PAIRS[pair][:2])
    if verdict not in (BETTER, WORSE) or not before > 0:
        return verdict
    way = "lower" if after < before else "higher"
    return f"{100 * abs(after - before) / before:.0f} % {way}, {verdict}"


def _mean(report: dict[str, Any], arm: str) -> float:
    return _finite(report["metrics"][arm].get(report["metric_names"]["primary"]))


def _is_percent(name: str) -> bool:
    return any(word in name for word in PERCENT)


def _label(name: str) -> str:
    return _text({"nll": "loss"}.get(name, name.replace("_", " ")))


def _axis_unit(name: str) -> str:
    return " (%)" if _is_percent(name) else " (nats/token)" if name == "nll" else ""


def _value(name: str, value: Any, *, unit: bool = True) -> str:
    """A metric's value as a person reads it, with its unit where it has one."""
    number = _finite(value)
    if math.isnan(number):
        return "–"
    if _is_percent(name):
        return f"{100 * number:.1f}" + (" %" if unit else "")
    decimals = 3 if abs(number) < 10 else 1
    return f"{number:,.{decimals}f}" + (" nats/token" if unit and name == "nll" else "")


def _difference(name: str, value: float) -> str:
    if _is_percent(name):
        return f"{100 * value:+.1f} percentage points".replace("-", "−")
    return f"{value:+,.{3 if abs(value) < 1 else 2}f}".replace("-", "−")


def _tick(name: str, value: float) -> str:
    return f"{100 * value:g}" if _is_percent(name) else f"{value:,.10g}"


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:.2f}"


def _delta(spent: dict[str, Any]) -> str:
    delta = spent["delta"]
    return f"{delta:.9f}".rstrip("0") if delta >= 1e-7 else f"{delta:g}"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def _sent(report: dict[str, Any]) -> str:
    return _bytes(report["secure_aggregation"]["upload_bytes_per_client_round"])


def _people(report: dict[str, Any]) -> str:
    return _count(report["users"], "person", "people")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _finished(report: dict[str, Any]) -> int:
    return sum(entry["status"] == "done" for entry in report["rounds_log"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> float:
    """The number, or NaN for what is missing or infinite."""
    return float(value) if _is_number(value) and math.isfinite(value) else math.nan


def _last_if_missing(value: Any) -> tuple[bool, float]:
    number = _finite(value)
    return (True, 0.0) if math.isnan(number) else (False, number)


def _needs_log(values: Iterable[Any]) -> bool:
    known = [number for value in values if not math.isnan(number := _finite(value))]
    return bool(known) and min(known) > 0 and max(known) > 8 * min(known)


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, first and last among them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


# --- HTML ---


def _text(value: Any) -> str:
    return escape(_printable(value), quote=True)


def _printable(value: Any) -> str:
    """One line of text without control characters or half characters, which no file could hold."""
    return "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in str(value)
    )


def _short(user: Any) -> str:
    name = _printable(user)
    return name if len(name) <= 12 else name[:11] + "…"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _warning(title: str, body: str) -> str:
    return f'<div class="warn" role="note"><strong>{title}</strong> {body}</div>'


def _cells(cells: Iterable[str], tag: str = "td") -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table class="facts">{body}</table></div>'
