"""Examples made from a JSON Schema alone: the fullest one, with every field said."""

import json
from pathlib import Path
from typing import Any

from schemas import asyncapi

Json = dict[str, Any]
_BY_FORMAT = {"date-time": "2013-02-03T04:05:06Z", "duration": "PT8H"}
_BY_PATTERN = {
    r"^sha256:[0-9a-f]{64}$": "sha256:" + "ab" * 32,
    r"^[a-z][a-z0-9-]{0,62}$": "flights",
    r"^[A-Za-z_][A-Za-z0-9_]{0,62}$": "distance",
}


def example(schema: Json) -> Any:
    """A value that the schema allows."""
    return _example(schema, schema.get("$defs", {}))


def _example(schema: Json, defs: Json) -> Any:
    if "$ref" in schema:
        return _example(defs[schema["$ref"].removeprefix("#/$defs/")], defs)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if alternatives := schema.get("anyOf", schema.get("oneOf")):
        return _example(alternatives[0], defs)
    return _OF_TYPE[schema["type"]](schema, defs)


def _array(schema: Json, defs: Json) -> list[Any]:
    return [_example(each, defs) for each in schema.get("prefixItems", [schema.get("items")])]


def _string(schema: Json, _defs: Json) -> str:
    return _BY_FORMAT.get(schema.get("format", ""), _BY_PATTERN.get(schema.get("pattern", ""), "text"))


def _number(schema: Json, _defs: Json) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1))
    return float(low + (high - low) / 4)


def _object(schema: Json, defs: Json) -> Json:
    if "properties" in schema:
        return _consistent({name: _example(each, defs) for name, each in schema["properties"].items()})
    for pattern, inner in schema.get("patternProperties", {}).items():
        return {_BY_PATTERN[pattern]: _example(inner, defs)}
    names = schema.get("propertyNames", {})
    key = names["enum"][0] if "enum" in names else _BY_PATTERN.get(names.get("pattern", ""), "0")
    return {key: _example(schema["additionalProperties"], defs)}


def _consistent(said: Json) -> Json:
    """What a schema cannot say: a range has two ends, a bool label no values, and selective feedback if it explores."""
    if {"min", "max"} <= said.keys():
        said["max"] = said["min"] + 0.5
    if "feedback" in said:
        said["values"] = []
    if "explore" in said:
        said["feedback"] = "selective"
    return said


_OF_TYPE = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": lambda schema, _defs: int(schema.get("minimum", 3)),
    "boolean": lambda _schema, _defs: True,
    "null": lambda _schema, _defs: None,
}


def write_missing_golden_files() -> None:
    """Give every published schema that has none its golden file: `python -m tests.contract.examples`."""
    for path in asyncapi.PUBLISHED.glob("*/*.json"):
        golden = Path(__file__).parent / "golden" / path.parent.name / path.name
        if not golden.exists():
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(json.dumps(example(json.loads(path.read_text())), indent=1) + "\n")


if __name__ == "__main__":
    write_missing_golden_files()
