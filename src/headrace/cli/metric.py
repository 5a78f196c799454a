"""A metric beside its baseline, as people read it."""

from __future__ import annotations

from headrace.views import MetricView


def measured(metric: MetricView) -> str:
    """Name and figure as markup, green where it beats its baseline, red where it does not.

    A dash where no event has been measured yet.

    >>> metric = MetricView(name="MAE", value=1.25, baseline=2.0, baseline_name="last value",
    ...                     bigger_is_better=False, events=10)
    >>> measured(metric), baseline(metric)
    ('[green]MAE 1.2500[/]', '2.0000 last value')
    """
    if not metric.events:
        return f"{metric.name} –"
    text = f"{metric.name} {metric.value:.4f}"
    if metric.baseline is None or metric.value == metric.baseline:
        return text
    better = (metric.value > metric.baseline) == metric.bigger_is_better
    return f"[{'green' if better else 'red'}]{text}[/]"


def baseline(metric: MetricView) -> str:
    """The baseline's figure and what it is."""
    if metric.baseline is None or not metric.events:
        return "–"
    return f"{metric.baseline:.4f} {metric.baseline_name or ''}".rstrip()
