"""An MCP server that books trips, in a file: travel.py FILE.

Made up, but strict: what is booked stays booked until it is cancelled, and there are only small cars.
"""

import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

DEFAULT_FILE = Path(tempfile.gettempdir()) / f"antiphon-travel-{os.getuid()}.json"
FILE = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
LARGEST = {"flight": 100, "hotel": 20, "car": 4}

server = MCPServer("travel", instructions="Books flights, hotels and cars, and cancels them.", log_level="WARNING")


class Booking(BaseModel):
    id: str
    kind: Literal["flight", "hotel", "car"]
    place: str
    people: int


class Bookings(BaseModel):
    bookings: list[Booking]


# It says nothing about repeating it, and must not be: twice is two bookings.
@server.tool()
def book(kind: Literal["flight", "hotel", "car"], place: str, people: int = Field(ge=1)) -> Booking:
    """Books one thing for a number of people."""
    if people > LARGEST[kind]:
        raise ToolError(f"no {kind} in {place} takes {people} people: {LARGEST[kind]} at most")
    booking = Booking(id=f"{kind}-{uuid.uuid4().hex[:6]}", kind=kind, place=place, people=people)
    write([*read(), booking])
    return booking


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def cancel(id: str) -> Bookings:
    """Cancels a booking; one that is not there is cancelled already."""
    write([booking for booking in read() if booking.id != id])
    return Bookings(bookings=read())


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def bookings() -> Bookings:
    """Lists what is booked."""
    return Bookings(bookings=read())


def read() -> list[Booking]:
    return [Booking(**entry) for entry in json.loads(FILE.read_text())] if FILE.exists() else []


def write(bookings: list[Booking]) -> None:
    part = FILE.with_suffix(".part")
    part.write_text(json.dumps([booking.model_dump() for booking in bookings], indent=1))
    part.rename(FILE)


if __name__ == "__main__":
    server.run()
