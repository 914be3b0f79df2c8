"""The messages of the Open Inference Protocol v2, REST, with the binary tensor data extension.

Source: kserve/open-inference-protocol, inference_rest.md; Triton Inference Server, extension_binary_data.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.deployer.gateway.errors import Invalid
from services.deployer.gateway.tensors import Datatype, Value, from_binary, from_json, to_binary
from shared.records import UNREADABLE

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
Size = Annotated[int, Meta(ge=0, le=2**53)]
Parameters = dict[str, Any]


class RequestInput(Struct, kw_only=True):
    """A tensor, with its data here or behind the JSON."""

    name: str
    shape: Annotated[list[Size], Meta(min_length=1, max_length=2)]
    datatype: Datatype
    parameters: Parameters = {}
    data: list[Any] | UnsetType = UNSET


class RequestOutput(Struct, kw_only=True):
    """A tensor that is asked for."""

    name: str
    parameters: Parameters = {}


class InferenceRequest(Struct, kw_only=True):
    """What is asked."""

    inputs: Annotated[list[RequestInput], Meta(min_length=1)]
    id: str | UnsetType = UNSET
    parameters: Parameters = {}
    outputs: list[RequestOutput] = []


class MetadataTensor(Struct, kw_only=True):
    """What a tensor must be, or will be; -1 is any number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(Struct, kw_only=True):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[MetadataTensor]
    outputs: list[MetadataTensor]


class ServerMetadata(Struct, kw_only=True):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(Struct, kw_only=True):
    """A model that is ready."""

    name: str
    ready: bool


class ServerReady(Struct, kw_only=True):
    """`live` as the specification writes it for both probes, `ready` as its prose means it."""

    live: bool
    ready: bool


class ResponseOutput(Struct, kw_only=True, omit_defaults=True):
    """A tensor, with its data here or behind the JSON."""

    name: str
    shape: list[int]
    datatype: Datatype
    parameters: Parameters = {}
    data: list[Any] | UnsetType = UNSET


class InferenceResponse(Struct, kw_only=True):
    """What is answered; `model_version` only where all rows have the same."""

    model_name: str
    outputs: list[ResponseOutput]
    model_version: str | UnsetType = UNSET
    id: str | UnsetType = UNSET


class Error(Struct, kw_only=True):
    """Why there is no answer."""

    error: str


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A named tensor, row-major."""

    name: str
    datatype: Datatype
    shape: list[int]
    values: Sequence[Value]
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request with its tensors read."""

    request: InferenceRequest
    inputs: list[Tensor]


_REQUEST = msgspec.json.Decoder(InferenceRequest)
_ENCODER = msgspec.json.Encoder()


def read(body: bytes, header_length: str | None) -> Asked:
    """A request's body; `header_length` is that header's value, the size of the JSON where bytes follow it.

    Raises:
        Invalid: it is not as the protocol says.
    """
    size = _size(header_length, len(body))
    try:
        request = _REQUEST.decode(body[:size])
    except (msgspec.ValidationError, *UNREADABLE) as error:
        raise Invalid(f"body: {error}") from None
    return Asked(request=request, inputs=_tensors(request.inputs, body[size:]))


def _size(header_length: str | None, length: int) -> int:
    if header_length is None:
        return length
    if not (header_length.isascii() and header_length.isdigit() and int(header_length[:20]) <= length):
        raise Invalid(f"{HEADER_LENGTH}: expected a number of bytes, at most {length}, got {header_length[:20]!r}")
    return int(header_length)


def _tensors(inputs: Sequence[RequestInput], rest: bytes) -> list[Tensor]:
    found, position = [], 0
    for index, each in enumerate(inputs):
        try:
            size = _binary_size(each)
            values = _values(each, rest[position : position + size], size)
        except Invalid as error:
            raise Invalid(f"inputs[{index}] {each.name!r}: {error}") from None
        position += size
        found.append(Tensor(name=each.name, datatype=each.datatype, shape=each.shape, values=values))
    if position != len(rest):
        raise Invalid(f"body: expected {position} bytes of tensors after the JSON, got {len(rest)}")
    return found


def _binary_size(each: RequestInput) -> int:
    size = each.parameters.get("binary_data_size", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise Invalid(f"binary_data_size: expected a number of bytes, got {size!r:.40}")
    return size


def _values(each: RequestInput, raw: bytes, size: int) -> list[Value]:
    in_json = not isinstance(each.data, UnsetType)
    if in_json == ("binary_data_size" in each.parameters):
        raise Invalid("expected either data or binary_data_size")
    if len(raw) < size:
        raise Invalid(f"expected {size} bytes, got {len(raw)}")
    values = (
        from_binary(each.datatype, raw) if isinstance(each.data, UnsetType) else from_json(each.datatype, each.data)
    )
    if len(values) != (count := _count(each.shape)):
        raise Invalid(f"expected {count} elements for the shape {each.shape}, got {len(values)}")
    return values


def _count(shape: Sequence[int]) -> int:
    """Elements of a shape.

    >>> _count([3, 1])
    3
    """
    count = 1
    for size in shape:
        count *= size
    return count


def write(
    response: InferenceResponse, tensors: Sequence[Tensor], request: InferenceRequest
) -> tuple[bytes, int | None]:
    """The body of an answer, and the size of its JSON where bytes follow it; only what was asked for, in that order.

    Raises:
        Invalid: an output is asked for that there is not.
    """
    chosen = _chosen(tensors, request.outputs)
    rest = []
    for tensor, binary in _forms(chosen, request):
        output = ResponseOutput(name=tensor.name, shape=tensor.shape, datatype=tensor.datatype)
        output.parameters = dict(tensor.parameters)
        if binary:
            rest.append(to_binary(tensor.datatype, tensor.values))
            output.parameters["binary_data_size"] = len(rest[-1])
        else:
            output.data = list(tensor.values)
        response.outputs.append(output)
    response.id = request.id
    header = _ENCODER.encode(response)
    return header + b"".join(rest), len(header) if rest else None


def check_outputs(names: Sequence[str], wanted: Sequence[RequestOutput]) -> None:
    """Refuse to ask for what will not be there.

    Raises:
        Invalid: which output it is.
    """
    for index, output in enumerate(wanted):
        if output.name not in names:
            raise Invalid(f"outputs[{index}]: expected one of {list(names)}, got {output.name!r}")


def _chosen(tensors: Sequence[Tensor], wanted: Sequence[RequestOutput]) -> list[Tensor]:
    named = {tensor.name: tensor for tensor in tensors}
    check_outputs(list(named), wanted)
    return [named[output.name] for output in wanted] if wanted else list(tensors)


def _forms(chosen: Sequence[Tensor], request: InferenceRequest) -> list[tuple[Tensor, bool]]:
    """Each tensor, and whether it goes as bytes."""
    every = request.parameters.get("binary_data_output") is True
    own = {output.name: output.parameters.get("binary_data", every) is True for output in request.outputs}
    return [(tensor, own.get(tensor.name, every)) for tensor in chosen]
