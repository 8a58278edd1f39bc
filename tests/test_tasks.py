"""No task without an owner: whoever begins one by hand is found here, by reading all of the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import NAMES

OWNER = "satellite.tasks"
"""The only module that makes tasks: `Background.run` for what lives on, `begin_task` for what its caller ends."""

LOOSE = {"create_task", "ensure_future", "run_coroutine_threadsafe"}


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, str]]:
    """Yield every call with what it is called on, if that is a plain name, and the name of the function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, node.func.value.id if isinstance(node.func.value, ast.Name) else "", node.func.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node, "", node.func.id


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
    """Return the places where a task is begun that nobody owns, or where what became of one is thrown away."""
    tree = ast.parse(source)
    owned = groups(tree)
    found = [
        f"{call.lineno}: {ast.unparse(call.func)}: use satellite.tasks"
        for call, on, name in calls(tree)
        if name in LOOSE and on not in owned
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Expr):
            continue
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if not isinstance(value, ast.Call):
            continue
        called = ast.unparse(value.func)
        if called == "begin_task":
            found.append(f"{node.lineno}: begin_task: nobody keeps the task")
        if called == "asyncio.gather" and any(keyword.arg == "return_exceptions" for keyword in value.keywords):
            found.append(f"{node.lineno}: asyncio.gather: nobody looks at the exceptions; use end_tasks")
    return found


def test_every_task_has_an_owner() -> None:
    found = {name: ownerless(file.read_text()) for name, file in NAMES.items() if name != OWNER}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.create_task(work())",
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
