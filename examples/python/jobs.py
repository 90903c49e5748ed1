"""An MCP server for long jobs: jobs.py DIRECTORY.

A job is a process of its own. It goes on when this server ends, and what is known about it is on disk, so any later server can
be asked about it.
"""

import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel

STATE = Path(tempfile.gettempdir()) / f"antiphon-jobs-{os.getuid()}"
LONGEST = 3600  # seconds

# What may be run. A client names a job; it never sends a command.
JOBS = {
    "verify": ["git", "fsck", "--no-dangling", "--no-progress"],
    "check": ["cargo", "check", "--workspace", "--quiet"],
    "test": ["cargo", "test", "--workspace", "--quiet"],
    "nap": ["sleep", "10"],
}
Name = Literal["verify", "check", "test", "nap"]

server = MCPServer("jobs", instructions="Starts long jobs and tells how they do.", log_level="WARNING")


class Job(BaseModel):
    id: str
    state: Literal["running", "passed", "failed"]
    last_lines: str


@server.tool(annotations=ToolAnnotations(destructive_hint=False))
def start(name: Name) -> Job:
    """Starts a job and returns at once."""
    id = f"{name}-{uuid.uuid4().hex[:8]}"
    (STATE / id).mkdir(parents=True)
    directory = sys.argv[1] if len(sys.argv) > 1 else "."
    subprocess.Popen(
        [sys.executable, __file__, "--supervise", id, directory],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return status(id)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def status(id: str) -> Job:
    """Tells how a job does, and the last lines that it printed."""
    folder = STATE / Path(id).name
    if not folder.is_dir():
        raise ToolError(f"no job is called {id!r}")
    log = folder / "log"
    lines = log.read_text(errors="replace").splitlines()[-10:] if log.exists() else []
    ended = folder / "status"
    code = ended.read_text() if ended.exists() else None
    state = "running" if code is None else "passed" if code == "0" else "failed"
    return Job(id=id, state=state, last_lines="\n".join(lines))


def supervise(id: str, directory: str) -> None:
    """Runs a job to its end and leaves its status behind."""
    folder = STATE / id
    with open(folder / "log", "wb") as log:
        try:
            command = JOBS[id.rsplit("-", 1)[0]]
            code = subprocess.run(command, cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=LONGEST).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            log.write(f"{error}\n".encode())
            code = 1
    # Renamed, so that the status is there as a whole or not at all.
    part = folder / "status.part"
    part.write_text(str(code))
    part.rename(folder / "status")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--supervise"]:
        supervise(*sys.argv[2:])
    else:
        server.run()
