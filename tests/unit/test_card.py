"""The model card: what it says, that it needs nothing else, and that no text of a spec becomes markup."""

import dataclasses
import json
import re
from functools import partial
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from services.validator.domain.card import canonical, card
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import judge
from services.validator.page import page
from tests.unit import test_gates
from tests.unit.test_gates import good, two
from tests.unit.test_validator import candidate

GATES: dict[str, Any] = {
    "roc_auc": {"min": 0.7, "not_worse_than_champion": 0.01}, "slices": {"max_gap": 0.1}, "robustness": {},
    "fairness": {"demographic_parity": 0.2}, "leakage": {}, "latency_p99_ms": 5,
}  # fmt: skip
SPAN = {"from": "2013-01-01T00:00:00", "until": "2013-02-20T00:00:00", "rows": 9000, "labels_mean": 0.5}


evidence_of = partial(test_gates.evidence_of, rows=1200)


class Seen(HTMLParser):
    """Tags and what they point to; every tag that needs an end has one."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def drawn(evidence: Evidence, **changes: Any) -> Any:
    """The card of a candidate with this evidence."""
    update = {"spec": evidence.spec, "stream_spec": evidence.stream_spec, "signature": evidence.signature}
    about = candidate().model_copy(update=update | changes)
    data = {"cut": about.cut.model_dump(mode="json"), "learned": SPAN, "held_out": SPAN}
    champion = {"version": 4, "candidate": {"onnx": {"digest": "sha256:c4a3"}}} if evidence.scored else None
    around = {"data": data, "champion": champion, "manifest": {}, "reference": {}}
    return card(about, evidence, judge(evidence), around)


def test_a_card_is_one_page_that_needs_nothing_else() -> None:
    evidence = evidence_of(GATES)
    beside = dataclasses.replace(evidence.rows, champion=good(evidence.rows.inputs))

    seen = Seen(page(drawn(dataclasses.replace(evidence, scored=beside))))

    assert seen.open == []
    assert seen.tags.count("img") == 7
    assert all(target.startswith("data:image/svg+xml;base64,") for target in seen.targets)
    assert not {"script", "link", "iframe"} & set(seen.tags)


def test_a_card_says_what_was_decided_and_why() -> None:
    found = drawn(evidence_of(GATES | {"roc_auc": {"min": 0.95}}))

    text = page(found).decode()

    assert found["verdict"] == "rejected"
    assert "Why it may not serve" in text
    assert "expected at least 0.95" in text
    assert "It may not serve: 1 of" in text


def test_a_card_holds_the_numbers_that_the_page_shows() -> None:
    evidence = evidence_of(GATES)

    found = json.loads(canonical(drawn(evidence)))

    quality = {each["metric"]: each for each in found["quality"]}
    assert quality["roc_auc"]["value"] == pytest.approx(evidence.metrics["roc_auc"])
    assert quality["roc_auc"]["confidence"][0] < quality["roc_auc"]["value"] < quality["roc_auc"]["confidence"][1]
    assert quality["roc_auc"]["constant"] == 0.5
    assert max(found["importance"], key=found["importance"].__getitem__) == "x"
    assert sum(map(sum, found["figures"]["confusion"])) == len(evidence.rows.truth)
    assert {each["value"] for each in found["slices"]} == {"a", "b", "c"}
    assert [each["criterion"] for each in found["fairness"]] == [
        "demographic_parity", "equalized_odds", "equalized_odds"
    ]  # fmt: skip
    assert found["weak_spots"]


def test_a_candidate_that_could_not_be_loaded_has_a_card_too() -> None:
    unloaded = dataclasses.replace(evidence_of(), scored=None, learned=None, safety=("onnx: external data",))

    seen = page(drawn(unloaded)).decode()

    assert "onnx: external data" in seen
    assert "It could not be asked about rows it had not seen." in seen
    assert "<img" not in seen


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_every_task_has_a_card(task: str) -> None:
    def number(inputs: Any) -> Any:
        return inputs[:, 0].astype(float)

    def thirds(inputs: Any) -> Any:
        return np.tile([0.2, 0.3, 0.5], (len(inputs), 1))

    predict = number if task == "regression" else thirds
    truth = (lambda inputs, _: number(inputs) + 0.1) if task == "regression" else (lambda inputs, _: inputs[:, 2])
    evidence = evidence_of({"robustness": {"max_drop": 1}}, predict, task=task, truth=truth)

    seen = Seen(page(drawn(evidence)))

    assert seen.open == []
    assert seen.tags.count("img") >= 4


def test_no_text_of_a_spec_becomes_markup() -> None:
    evidence = evidence_of()
    evil = "<script>alert(1)</script>"
    spec = evidence.spec.model_copy(update={"owner": evil})

    data = page(drawn(dataclasses.replace(evidence, spec=spec), model=evil)).decode()

    assert "<script" not in data
    assert "&lt;script&gt;" in data


def test_equal_cards_are_equal_bytes() -> None:
    first, second = (drawn(evidence_of(GATES)) for _ in range(2))

    assert (canonical(first), page(first)) == (canonical(second), page(second))


def test_limits_say_what_no_figure_shows() -> None:
    said = " ".join(drawn(evidence_of())["limits"])

    assert "It learned from 51 days. Other seasons than those it has not seen." in said
    assert re.search(r"Nobody asked for a bound on: .*leakage", said)
    assert "known for certain after 60 minutes" in said
    assert "Nobody has said what it is for" in said
    assert "No feature is declared sensitive" not in said


def test_a_part_where_a_constant_is_better_is_named_among_the_limits() -> None:
    def backwards_when_late(inputs: Any) -> Any:
        p = good(inputs)[:, 1]
        return two(p * (inputs[:, 3] == 0) + (1 - p) * (inputs[:, 3] == 1))

    said = " ".join(drawn(evidence_of(predict=backwards_when_late, rows=3000))["limits"])

    assert re.search(r"Do not rely on it for .*late=true", said)
