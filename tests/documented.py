"""What the settings say of themselves; the daemon does not read it, which would cost it a tenth of a second."""

import ast
import inspect
import textwrap


def documented(section: type) -> set[str]:
    """Return the names of the fields in the body of `section` that have a docstring below them."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(tree, ast.ClassDef)
    found = set()
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            told = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and bool(text.value.value)
            found |= {field.target.id} if told else set()
    return found
