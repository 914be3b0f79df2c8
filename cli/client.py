"""What commands reach and how they end: the registry's HTTP API, settings of the other parts, words."""

import getpass
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self, TypeVar

import httpx
import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from rich.box import HEAVY_HEAD
from rich.console import Console, RenderableType
from rich.table import Column, Table

Role = Literal["viewer", "operator", "approver"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "approver")
Json = dict[str, Any]
Settings = TypeVar("Settings", bound=BaseSettings)
_PIPE_COLUMNS: Final = 10_000
_TIMEOUT_SECONDS = 60.0  # topics are made while the caller waits


class RegistryError(Exception):
    """The registry said no, or nothing; `status` is its HTTP status, None when it could not be asked."""

    def __init__(self, message: str, *, status: int | None = None, problem: Json | None = None) -> None:
        self.status = status
        self.problem = problem or {}
        super().__init__(message)


class Registry:
    """A client of the role asked for; use it as a context manager.

    Found by MODELBUS_REGISTRY_URL, or MODELBUS_REGISTRY_HTTP_PORT on the loopback; the token is that of the role, or of
    a higher one when only that is there (MODELBUS_REGISTRY_VIEWER_TOKEN, …_OPERATOR_TOKEN, …_APPROVER_TOKEN).

    Raises:
        RegistryError: the environment names no registry or no token, from the constructor; and from every request.
    """

    def __init__(self, role: Role, *, actor: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        headers = {"Authorization": f"Bearer {_token(role, environment)}", "X-Actor": actor_name(actor)}
        self._http = httpx.Client(base_url=_url(environment), headers=headers, timeout=_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> Json:
        """A JSON object; 404 and all other refusals raise."""
        return self._ask("GET", path, params=parameters)

    def pages(self, path: str, *, limit: int = 500) -> Iterator[Json]:
        """The items of a list, page by page, to its end."""
        after: dict[str, str | int] = {}
        while True:
            page = self.get(path, limit=limit, **after)
            yield from page["items"]
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def act(self, path: str, reason: str) -> Json:
        """Do something to a model or version, and say why."""
        return self.post(path, reason=reason)

    def post(self, path: str, **body: object) -> Json:
        """A JSON object in, a JSON object out."""
        return self._ask("POST", path, json=body)

    def apply(self, text: str, *, source: str, reason: str, dry_run: bool = False) -> Json:
        """Declare, or with `dry_run` ask what that would change."""
        parameters = {"dry_run": str(dry_run).lower(), "source": source[-255:], "reason": reason}
        return self._ask("POST", "/apply", params=parameters, content=text, headers={"Content-Type": "text/yaml"})

    def read(self, path: str) -> bytes:
        """What is no JSON object, as it is sent."""
        return self._response("GET", path).content

    def _ask(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._response(method, path, **request).json()
        return answer

    def _response(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise RegistryError(f"the registry at {where} does not answer ({error}); is the stack up?") from None
        if response.is_success:
            return response
        raise _refusal(response)


def _refusal(response: httpx.Response) -> RegistryError:
    try:
        problem: Json = response.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem, detail = {}, f"{response.status_code} {response.reason_phrase}"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        detail = "the registry does not know this token; check the MODELBUS_REGISTRY_…_TOKEN settings"
    return RegistryError(detail, status=response.status_code, problem=problem)


def _url(environment: Mapping[str, str]) -> str:
    if url := environment.get("MODELBUS_REGISTRY_URL"):
        return url
    if port := environment.get("MODELBUS_REGISTRY_HTTP_PORT"):
        return f"http://127.0.0.1:{port}"
    raise RegistryError(f"{_no_stack(environment)} MODELBUS_REGISTRY_URL and a token")


def _no_stack(environment: Mapping[str, str]) -> str:
    folder = environment.get("MODELBUS_FOLDER", ".modelbus")
    return f"no stack runs in {folder}; start one with `modelbus up`, name its folder (--stack), or set"


def _token(role: Role, environment: Mapping[str, str]) -> str:
    names = [f"MODELBUS_REGISTRY_{each.upper()}_TOKEN" for each in ROLES[ROLES.index(role) :]]
    for name in names:
        if token := environment.get(name):
            return token
    if not environment.get("MODELBUS_REGISTRY_URL") and not environment.get("MODELBUS_REGISTRY_HTTP_PORT"):
        _url(environment)
    raise RegistryError(f"no token for the role {role}; set {' or '.join(names)}")


def actor_name(actor: str | None) -> str:
    """Who acts, in the audit log and on marks: the name given, or the user's."""
    return _plain(actor or _user())


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"uid-{os.getuid()}"


def _plain(name: str) -> str:
    """As X-Actor allows it.

    >>> _plain("Ann Lee")
    'Ann-Lee'
    """
    return re.sub(r"[^A-Za-z0-9_.@+-]", "-", name)[:64]


@contextmanager
def registry(role: Role, *, actor: str | None = None) -> Iterator[Registry]:
    """The registry for a command: what it refuses is told in words and ends the command with exit code 1."""
    try:
        with Registry(role, actor=actor) as client:
            yield client
    except RegistryError as error:
        fail(str(error))


def settings(of: type[Settings]) -> Settings:
    """Those of a part of the running stack; without them the command ends in words."""
    try:
        return of()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{of.model_config['env_prefix']}{first['loc'][0]}".upper()
        fail(f"{_no_stack(os.environ)} {name}" if first["type"] == "missing" else f"{name}: {first['msg']}")


def table(*names: str, title: str | None = None, frame: bool = True) -> Table:
    """With these columns; what is too wide is folded, nothing is cut."""
    columns = (Column(name, overflow="fold") for name in names)
    return Table(*columns, title=title, title_justify="left", box=HEAVY_HEAD if frame else None, pad_edge=frame)


def show_table(made: RenderableType) -> None:
    """As wide as the terminal; as wide as it is where another program reads."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_COLUMNS
    console.print(made)


def counted(number: int, what: str) -> str:
    """Such as `1 record` or `1,200 records`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def say(words: str) -> None:
    """Words as they are, whatever brackets they hold, in lines of any length."""
    Console().print(words, markup=False, highlight=False, soft_wrap=True)


def show(found: Json, told: Callable[[Json], Iterable[tuple[str, str]]], *, width: int, as_json: bool) -> None:
    """An answer of the registry: as it is, for scripts, or a line for each name and what is told of it."""
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, words in told(found):
        say(f"{name:<{width}}{words}")


def fail(message: str) -> NoReturn:
    """Say what is wrong and end the command.

    Raises:
        typer.Exit: always, with code 1.
    """
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)
