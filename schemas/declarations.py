"""Declarations as people write them: YAML, several documents a file, each a stream or a model.

Scalars are read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `on` and `NO` are words,
not truth values. All problems of a text are reported at once, each with its line, what was found and what was expected.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.specs import ModelSpec, StreamSpec

Spec: TypeAlias = StreamSpec | ModelSpec
Where: TypeAlias = tuple[str | int, ...]
MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000  # aliases are followed, so a small text can name very many values
MAX_DEPTH = 32
_LONGEST_FOUND = 80
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_CORE_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: where it stands (file, line from 1, path), what was found, what was expected."""

    source: str
    line: int
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = f" {self.where}:" if self.where else ""
        return f"{self.source}:{self.line}:{where} found {self.found}; expected {self.expected}"


class DeclarationsInvalid(Exception):
    """A text that declares nothing usable; `problems` holds everything that is wrong with it, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.source, problem.line))
        super().__init__(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A spec, and where each of its values was written."""

    spec: Spec
    source: str
    lines: Mapping[Where, int]

    def line(self, *where: str | int) -> int:
        """The line of the nearest written value at or above `where`."""
        return _nearest(self.lines, where)


def parse(text: str, source: str = "<text>") -> list[Spec]:
    """The specs that a YAML text declares, in its order.

    Raises:
        DeclarationsInvalid: with every problem of the text.
    """
    return [declaration.spec for declaration in read(text, source)]


def read(text: str, source: str = "<text>") -> list[Declaration]:
    """As `parse`, with the lines, for those who find problems later.

    Raises:
        DeclarationsInvalid: with every problem of the text.
    """
    if len(text.encode()) > MAX_BYTES:
        raise DeclarationsInvalid([Problem(source=source, line=1, where="", found=f"{len(text.encode())} bytes",
                                           expected=f"at most {MAX_BYTES}")])  # fmt: skip
    problems: list[Problem] = []
    declarations = []
    for document in _documents(text, source, problems):
        if declaration := _declaration(document):
            declarations.append(declaration)
        problems += document.problems
    problems += _repeated(declarations)
    if not declarations and not problems:
        problems.append(Problem(source=source, line=1, where="", found="nothing", expected="a stream or a model"))
    if problems:
        raise DeclarationsInvalid(problems)
    return declarations


@dataclass(kw_only=True)
class _Document:
    """One document read into plain values; remembers lines and what was wrong."""

    source: str
    value: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def wrong(self, where: Where, line: int, found: str, expected: str) -> None:
        path = ".".join(str(part) for part in where)
        self.problems.append(Problem(source=self.source, line=line, where=path, found=found, expected=expected))

    def plain(self, node: yaml.Node, where: Where) -> Any:
        """The node as str, int, float, bool, None, list or dict; its line is noted."""
        line = node.start_mark.line + 1
        self.lines.setdefault(where, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or len(where) > MAX_DEPTH:
            raise _TooMuch(line)
        if not node.tag.startswith(_CORE_TAG) or "python/" in node.tag:
            self.wrong(where, line, f"the tag {node.tag}", "plain YAML without tags")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*where, number)) for number, item in enumerate(node.value)]
        return scalar(node.value) if isinstance(node, yaml.ScalarNode) and node.style is None else node.value

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.wrong(where, line, "a list or a mapping as a key", "a word as a key")
            elif key.value in found:
                first = self.lines[*where, key.value]
                self.wrong((*where, key.value), line, f"the key {key.value!r} again", f"it once (see line {first})")
            else:
                self.lines[*where, key.value] = line
                found[key.value] = self.plain(value, (*where, key.value))
        return found


class _TooMuch(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema.

    >>> scalar("on"), scalar("NO"), scalar("010"), scalar("1e3"), scalar("true"), scalar("8h")
    ('on', 'NO', 10, 1000.0, True, '8h')
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 20 else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _documents(text: str, source: str, problems: list[Problem]) -> Iterator[_Document]:
    """Every document that can be read; what cannot becomes a problem."""
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            document = _Document(source=source)
            if isinstance(node, yaml.ScalarNode) and not node.value:
                continue  # an empty document, as after a last `---`
            document.value = document.plain(node, ())
            yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        found = " ".join(part for part in (error.context, error.problem) if part)
        problems.append(Problem(source=source, line=line, where="", found=found, expected="YAML"))
    except yaml.YAMLError as error:
        problems.append(Problem(source=source, line=1, where="", found=str(error), expected="YAML"))
    except (_TooMuch, RecursionError) as error:
        line = error.line if isinstance(error, _TooMuch) else 1
        problems.append(Problem(source=source, line=line, where="", found="too many or too deep values",
                                expected=f"at most {MAX_NODES} values, {MAX_DEPTH} levels deep"))  # fmt: skip


def _declaration(document: _Document) -> Declaration | None:
    value = document.value
    if not isinstance(value, dict) or not value.keys() & {"stream", "model"}:
        found = f"keys {sorted(value)}" if isinstance(value, dict) else _shown(value)
        document.wrong((), document.lines[()], found, "a stream (`stream: name`) or a model (`model: name`)")
        return None
    kind: type[Spec] = ModelSpec if "model" in value else StreamSpec
    try:
        spec = kind.model_validate(value)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            _explain(document, kind, error)
        return None
    return Declaration(spec=spec, source=document.source, lines=document.lines)


def _explain(document: _Document, kind: type[Spec], error: ErrorDetails) -> None:
    where = _written(document.value, error["loc"])
    if error["type"] == "missing":
        where = (*where, error["loc"][-1])
    line = _nearest(document.lines, where)
    if error["type"] == "missing":
        document.wrong(where, line, "nothing", f"a value for {where[-1]!r}")
    elif error["type"] == "extra_forbidden":
        names = _names_at(kind.model_json_schema(), error["loc"][:-1])
        closest = difflib.get_close_matches(str(where[-1]), names, n=1, cutoff=0.5)
        hint = f"{closest[0]!r}, perhaps; " if closest else ""
        document.wrong(where, line, f"the unknown key {where[-1]!r}", f"{hint}one of {', '.join(sorted(names))}")
    else:
        document.wrong(where, line, _shown(error["input"]), _expected(error))


def _written(value: Any, loc: tuple[str | int, ...]) -> Where:
    """pydantic's location without what nobody wrote: the tags of unions and `[key]`."""
    where: list[str | int] = []
    for part in loc:
        inside = isinstance(value, dict) and part in value
        if inside or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            value = value[part]
            where.append(part)
    return tuple(where)


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "union_tag_invalid":
        return f"{error['ctx']['discriminator']} to be one of {error['ctx']['expected_tags']}"
    if error["type"] == "union_tag_not_found":
        return f"a value for {error['ctx']['discriminator']}"
    message = error["msg"]
    for opening in ("Value error, ", "Input should be ", "String should ", "expected "):
        message = message.removeprefix(opening)
    if error["type"] == "string_type" and isinstance(error["input"], (int, float)):
        return f"{message} (in quotes)"
    return message


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_FOUND else f"{text[:_LONGEST_FOUND]}…"


def _nearest(lines: Mapping[Where, int], where: Where) -> int:
    for length in range(len(where), -1, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return 1


def _names_at(schema: dict[str, Any], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that the JSON Schema knows at a pydantic location."""
    defs = schema.get("$defs", {})
    for part in loc:
        schema = _resolved(schema, defs)
        if "discriminator" in schema:
            schema = {"$ref": schema["discriminator"]["mapping"][part]}
        elif "properties" in schema:
            schema = schema["properties"][part]
        else:
            named = schema.get("patternProperties", {}).values()
            schema = next(iter(named), schema.get("additionalProperties", schema.get("items", {})))
    return list(_resolved(schema, defs).get("properties", {}))


def _resolved(schema: dict[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    """Through references, and past the `null` of an optional."""
    if "$ref" in schema:
        return _resolved(defs[schema["$ref"].removeprefix("#/$defs/")], defs)
    for option in schema.get("anyOf", ()):
        if option.get("type") != "null":
            return _resolved(option, defs)
    return schema


def _repeated(declarations: list[Declaration]) -> list[Problem]:
    """One name declared twice in a text."""
    first: dict[tuple[str, str], Declaration] = {}
    problems = []
    for declaration in declarations:
        kind, name = kind_and_name(declaration.spec)
        if before := first.get((kind, name)):
            problems.append(Problem(source=declaration.source, line=declaration.line(kind), where=kind,
                                    found=f"{kind} {name!r} again",
                                    expected=f"it once (see line {before.line(kind)})"))  # fmt: skip
        first.setdefault((kind, name), declaration)
    return problems


def kind_and_name(spec: Spec) -> tuple[str, str]:
    """`("stream", "flights")` or `("model", "flight-delay")`."""
    return ("stream", spec.stream) if isinstance(spec, StreamSpec) else ("model", spec.model)
