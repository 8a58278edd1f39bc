"""What the sections of the configuration share: their base class and the types of common settings."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Device = Literal["auto", "cuda", "cpu"]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
HoursOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Addresses = Annotated[tuple[Annotated[str, Field(pattern=r"^tcp://.+:\d+$")], ...], BeforeValidator(_several)]
"""One address or several, such as tcp://gpu1:10300."""


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
