"""A card as one HTML page that needs nothing else: styles and figures are inside, scripts are none."""

import base64
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.validator.plots import METRICS, plots

Json = dict[str, Any]
_TEMPLATE: Final = "page.html.jinja"
_CAPTIONS: Final = {
    "roc": "Does it tell true from false? The further above the dotted line, the better.",
    "reliability": "Do its probabilities come true? On the dotted line they do, as often as they say.",
    "tenths": "Do its answers come true? On the dotted line they do, on average.",
    "spread": "What it says, by what came true. The less the colours overlap, the better.",
    "importance": "What it goes by: how much worse it is without knowing a feature.",
    "slices": "For whom it is good: each group by itself, its rows in brackets.",
    "confusion": "What it answers beside what came true, in rows; darker is a larger share.",
    "robustness": "How it bears disturbed inputs.",
}

_TITLES: Final = {
    "latency_p99_ms": "latency, ms",
    "size_mb": "size, MB",
    "fairness_demographic_parity": "fairness: demographic parity",
    "fairness_equalized_odds": "fairness: equalised odds",
}


def page(card: Json) -> bytes:
    """UTF-8 HTML; every text of the card is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"words": _words, "number": _number, "places": _places, "titled": _title}
    figures = [{"caption": _CAPTIONS[name], "source": _inside(drawing)} for name, drawing in plots(card).items()]
    return environment.get_template(_TEMPLATE).render(card=card, figures=figures).encode()


def _inside(drawing: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode()


def _words(name: str) -> str:
    """A name of ours as people write it.

    >>> _words("no_champion")
    'no champion'
    """
    return name.replace("_", " ")


def _title(name: str) -> str:
    """A metric's or gate's name as people read it.

    >>> _title("roc_auc_vs_champion"), _title("weak_spots"), _title("size_mb")
    ('ROC AUC beside the champion', 'weak spots', 'size, MB')
    """
    metric = name.removesuffix("_vs_champion")
    beside = " beside the champion" if metric != name else ""
    return _TITLES.get(metric, METRICS.get(metric, _words(metric))) + beside


def _number(value: float | None, digits: int = 4) -> str:
    """Few digits, or a dash.

    >>> _number(0.91234), _number(20000.0), _number(None), _number(0.0)
    ('0.9123', '20,000', '–', '0')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.{digits}g}"


def _places(value: float | None) -> str:
    """Four decimals, so that a column lines up.

    >>> _places(0.08), _places(None)
    ('0.0800', '–')
    """
    return "–" if value is None else f"{value:,.4f}"
