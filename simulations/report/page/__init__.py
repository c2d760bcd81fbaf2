"""`report.html`: one report (docs/DESIGN.md, section 6) as one page that loads nothing.

Plots are inline SVG whose colours are the page's CSS variables, so that light, dark and paper share
one drawing. Names of people, models and folders are untrusted text: all of it is escaped, and the
page's own policy forbids scripts and loads. The same report gives the same bytes.
"""

from simulations.report.page.page import render

__all__ = ["render"]
