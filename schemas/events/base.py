"""What every lifecycle event is: frozen, closed for writers, tolerant for readers, with a name, a version and a key."""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """A thing that happened.

    Writers may only say declared fields; readers ignore fields of later minor versions.
    `class ModelTrained(Event, event="model.trained", version=(1, 0), key="model")`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    event: ClassVar[str]
    version_of_schema: ClassVar[tuple[int, int]]
    key_field: ClassVar[str]

    def __init_subclass__(cls, *, event: str, key: str, version: tuple[int, int] = (1, 0), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event, cls.version_of_schema, cls.key_field = event, version, key

    @property
    def key(self) -> str:
        """The aggregate: events of one key keep their order."""
        return str(getattr(self, self.key_field))

    @classmethod
    def type_name(cls) -> str:
        """The CloudEvents type, with the major version only."""
        return f"modelbus.{cls.event}.v{cls.version_of_schema[0]}"

    @classmethod
    def schema_path(cls) -> str:
        """Where the JSON Schema is published, below schemas/published."""
        major, minor = cls.version_of_schema
        return f"{cls.event}/v{major}.{minor}.json"

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read tolerantly.

        Raises:
            pydantic.ValidationError: the bytes do not say this event.
        """
        return cls.model_validate_json(value, extra="ignore")

    def encode(self) -> bytes:
        """JSON, UTF-8; what was checked when the event was made is what is written."""
        return self.model_dump_json().encode()
