"""An MCP server that reads a git repository's history: history.py REPOSITORY."""

import subprocess
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

REPOSITORY = sys.argv[1] if len(sys.argv) > 1 else "."
READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)

server = MCPServer("history", instructions="Reads the history of one git repository.", log_level="WARNING")


class Commit(BaseModel):
    id: str
    author: str
    date: str = Field(description="When it was written, as YYYY-MM-DD")
    subject: str


class Page(BaseModel):
    commits: list[Commit]
    next: int = Field(description="What to skip to get the next page")
    more: bool = Field(description="Whether there is a next page")


@server.tool(annotations=READ_ONLY)
def commits(skip: int = 0, limit: int = 50) -> Page:
    """Lists commits, the newest first, a page at a time."""
    limit = max(1, min(limit, 500))
    # One more than asked for tells whether there is more.
    log = git("log", f"--skip={max(0, skip)}", f"--max-count={limit + 1}", "--date=short", "--format=%h%x1f%an%x1f%ad%x1f%s")
    found = [Commit(**dict(zip(Commit.model_fields, line.split("\x1f")))) for line in log.splitlines()]
    return Page(commits=found[:limit], next=skip + len(found[:limit]), more=len(found) > limit)


class Changed(BaseModel):
    path: str
    commits: int = Field(description="How many commits changed it")


class Changes(BaseModel):
    files: list[Changed]


@server.tool(annotations=READ_ONLY)
def most_changed(last: int = 100, top: int = 10) -> Changes:
    """Names the files that the last commits changed most often."""
    names = git("log", f"--max-count={max(1, min(last, 10_000))}", "--name-only", "--format=").split("\n")
    counts: dict[str, int] = {}
    for name in filter(None, names):
        counts[name] = counts.get(name, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Changes(files=[Changed(path=path, commits=count) for path, count in ranked[: max(1, top)]])


def git(*arguments: str) -> str:
    """Runs git; what it prints on stderr becomes the tool's error."""
    done = subprocess.run(
        ["git", "-C", REPOSITORY, *arguments], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise ToolError(done.stderr.strip() or f"git failed with status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    server.run()
