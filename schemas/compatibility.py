"""Whether two versions of a schema understand each other: full compatibility, with closed writers and tolerant readers.

Both ways, because events are kept for ever and readers are upgraded in any order: the new reader must read what the
old writer wrote, and the old reader what the new writer writes (it ignores fields it does not know).
"""

from typing import Any

Json = dict[str, Any]
_SAME = ("type", "const", "enum", "format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
         "minLength", "maxLength", "minItems", "maxItems")  # fmt: skip
_ALTERNATIVES = ("anyOf", "oneOf", "prefixItems")


def breaks(old: Json, new: Json) -> list[str]:
    """Every change from `old` to `new` that a reader of either side would stumble over; empty when there is none."""
    return _breaks("$", old, new, old.get("$defs", {}), new.get("$defs", {}))


def _breaks(where: str, old: Json, new: Json, old_defs: Json, new_defs: Json) -> list[str]:
    old, new = _resolved(old, old_defs), _resolved(new, new_defs)
    found = [
        f"{where}: {word} was {old.get(word)!r}, is {new.get(word)!r}"
        for word in _SAME
        if old.get(word) != new.get(word)
    ]
    found += _changed_requirements(where, old, new)
    for inner in ("items", "additionalProperties"):
        if isinstance(old.get(inner), dict) and isinstance(new.get(inner), dict):
            found += _breaks(f"{where}[]", old[inner], new[inner], old_defs, new_defs)
    if old.get("patternProperties", {}).keys() != new.get("patternProperties", {}).keys():
        found.append(f"{where}: the pattern of its keys changed")
    for word in _ALTERNATIVES:
        before, after = old.get(word, []), new.get(word, [])
        if len(before) != len(after):
            found.append(f"{where}: {word} had {len(before)} alternatives, has {len(after)}")
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            found += _breaks(f"{where}|{number}", one, other, old_defs, new_defs)
    for word in ("properties", "patternProperties"):
        before, after = old.get(word, {}), new.get(word, {})
        for name in sorted(before.keys() & after.keys()):
            found += _breaks(f"{where}.{name}", before[name], after[name], old_defs, new_defs)
    return found


def _resolved(schema: Json, defs: Json) -> Json:
    while "$ref" in schema:
        schema = defs[schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _changed_requirements(where: str, old: Json, new: Json) -> list[str]:
    """A field may come or go only while it has a default on the side that misses it."""
    before, after = old.get("properties", {}), new.get("properties", {})
    gone = [f"{where}.{name}: is gone" for name in before.keys() - after.keys()]
    added = [f"{where}.{name}: is new and has no default" for name in after.keys() - before.keys()
             if "default" not in after[name]]  # fmt: skip
    return sorted(gone + added)
