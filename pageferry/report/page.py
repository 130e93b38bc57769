"""The page: one file, no network, light and dark, phone and print."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import vl_convert

from pageferry.report.charts import Spec, without_empty

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fdfdfc; --line: #8885; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --paper: #17181a; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.verdict { border-left: .25rem solid #0072B2; padding-left: 1rem; max-width: 46rem; }
.said { max-width: 46rem; margin: .5rem 0; }
.note { max-width: 46rem; opacity: .85; }
.charts { display: grid; gap: 1.5rem;
          grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.chart { width: 100%; min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { cursor: pointer; position: sticky; top: 0; background: var(--paper); white-space: normal;
     vertical-align: bottom; }
th::after { content: "\\a0↕"; opacity: .4; }
td.text, th.text { text-align: left; }
td.words { white-space: normal; } td.long { overflow-wrap: anywhere; min-width: 6rem; }
.spread { display: block; opacity: .75; font-size: .7rem; }
td.factor { padding-left: 0; opacity: .75; }
tr.group td { padding-top: .6rem; font-weight: bold; }
code { font-size: .75rem; user-select: all; }
@media print { :root { color-scheme: light; } body { max-width: none; font-size: 11px; }
  h1, h2, .note { break-after: avoid; } p { orphans: 3; widows: 3; }
  .verdict, .said, .note { max-width: none; }
  .charts { display: block; } .chart { break-inside: avoid; margin-bottom: 1.5rem; }
  .chart, .chart > div { display: block; width: 100%; }
  .chart svg { width: 100% !important; height: auto !important; }
  .scroll { overflow: visible; } table { font-size: 7px; width: 100%; }
  th, td { padding: .1rem .15rem; } tr { break-inside: avoid; } tr.group { break-after: avoid; }
  th { position: static; } th::after { content: none; }
  td.long { min-width: 0; } .spread { font-size: 6px; }
  td.command { white-space: normal; } code { font-size: 6px; overflow-wrap: anywhere; } }
"""
_SCRIPT = """
for (const [id, spec] of Object.entries(SPECS))
  vegaEmbed('#' + id, spec, {renderer: 'svg', actions: false});
for (const head of document.querySelectorAll('th')) head.onclick = () => {
  const table = head.closest('table'), at = [...head.parentNode.children].indexOf(head);
  const down = head.dataset.down = head.dataset.down === '1' ? '0' : '1';
  const key = row => { const cell = row.children[at];
    return 'value' in cell.dataset ? +cell.dataset.value : cell.textContent; };
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !/group|failed/.test(row.className)).sort((a, b) => {
      const x = key(a), y = key(b); return (x > y) - (x < y); });
    if (down === '0') rows.reverse();
    body.append(...rows, ...body.querySelectorAll('tr.failed'));
  }
};
"""


@dataclass
class Section:
    """A heading, a few sentences, charts, and a table.

    Attributes:
        title: the heading.
        text: what it shows, in small, below it.
        charts: side by side as far as there is room; so wide that paper makes them little larger.
        table: HTML of a table.
        sentences: what it says, a paragraph each.
    """

    title: str
    text: str = ""
    charts: Sequence[Spec] = field(default_factory=list)
    table: str = ""
    sentences: Sequence[str] = ()


def page(title: str, sentences: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole file."""
    specs: dict[str, Spec] = {}
    body = "\n".join(_section(section, specs) for section in sections)
    verdict = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    data = json.dumps(specs, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    bundle = vl_convert.javascript_bundle(_EXPORT).replace("</script", "<\\/script")
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f'<h1>{html.escape(title)}</h1>\n<div class="verdict">{verdict}</div>\n{body}\n'
        f'<script type="module">{bundle}\nconst SPECS = {data};{_SCRIPT}</script>\n'
        "</body></html>\n"
    )


_EXPORT = "window.vegaEmbed = vegaEmbed;"


def _section(section: Section, specs: dict[str, Spec]) -> str:
    charts = [whole for spec in section.charts if (whole := without_empty(spec)) is not None]
    if not (charts or section.table or section.sentences):
        return ""
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f'<p class="note">{html.escape(section.text)}</p>')
    parts += [f'<p class="said">{html.escape(sentence)}</p>' for sentence in section.sentences]
    if charts:
        parts.append('<div class="charts">')
        for spec in charts:
            name = f"chart{len(specs)}"
            specs[name] = spec
            parts.append(f'<div class="chart" id="{name}"></div>')
        parts.append("</div>")
    if section.table:
        parts.append(f'<div class="scroll">{section.table}</div>')
    return "\n".join(parts)
