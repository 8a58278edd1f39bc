"""No task without an owner: whoever begins one by hand is found here, by reading all of the code."""

import ast
from pathlib import Path

import pytest

from tests.test_layers import NAMES

OWNER = "satellite.tasks"
"""The only module that makes tasks: `Background.run` for what lives on, `begin_task` for what its caller ends."""

LOOSE = {"create_task", "ensure_future", "run_coroutine_threadsafe"}


def groups(tree: ast.AST) -> set[str]:
    """Return the names of task groups: these await what they begin, and raise what it failed of."""
    return {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name) and ast.unparse(item.context_expr) == "asyncio.TaskGroup()"
    }


def ownerless(source: str) -> list[str]:
    """Return the calls that begin a task that nobody owns, or that throw away what became of one."""
    if not any(name in source for name in (*LOOSE, "begin_task", "gather")):
        return []  # reading all of the code takes seconds
    tree = ast.parse(source)
    owned = groups(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            on, _, name = ast.unparse(node.func).rpartition(".")
            if name in LOOSE and on not in owned:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Await | ast.Call):
            text = ast.unparse(node).removeprefix("await ")
            if text.startswith("begin_task(") or (text.startswith("asyncio.gather(") and "return_exceptions=" in text):
                found.append(text)
    return found


def test_every_task_has_an_owner() -> None:
    found = {name: ownerless(file.read_text()) for name, file in NAMES.items() if name != OWNER}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "source",
    [
        "task = asyncio.create_task(work())",
        "loop.create_task(work())",
        "asyncio.ensure_future(work())",
        "begin_task(work(), 'work')",
        "async def f():\n    await asyncio.gather(task, return_exceptions=True)",
    ],
)
def test_an_ownerless_task_is_found(source: str) -> None:
    assert len(ownerless(source)) == 1


def test_a_task_with_an_owner_is_left_alone() -> None:
    source = """
async def f():
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
    task = begin_task(work(), "work")
    results = await asyncio.gather(one(), two(), return_exceptions=True)
    await asyncio.gather(one(), two())
"""
    assert ownerless(source) == []
    assert Path(NAMES[OWNER]).read_text().count("asyncio.create_task(") == 1
