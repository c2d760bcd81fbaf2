"""Pages that load nothing, for reports and dashboards: safe text, SVG plots, one style."""
