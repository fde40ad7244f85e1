"""What a recipe is made of: the digest by which an artifact is known to be of today's recipe.

Not here: running recipes (`build`).
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

# Where recipes find what they share. Other imports, from numpy to onnx, are pinned by the lock file.
_SHARED = ("services", "shared")
# How every recipe hands over what it made. The format of artifacts has a number of its own, and these modules serve as
# well: an edit there must not make all models again.
_FORMAT = frozenset({"shared.inference.artifact", "shared.inference.draft", "shared.inference.manifest"})


def digest_recipe(name: str) -> str:
    """One sha256 over the recipe's module, the files beside it that bear its name (graph, golden, card), and the same
    of every module of this repository that it imports, however deep. Nothing of them is run.

    Raises:
        ModuleNotFoundError: there is no such module.
        SyntaxError: one of them is no Python.
    """
    own = _find(name)
    if own is None:
        raise ModuleNotFoundError(f"there is no module {name}", name=name)
    found = {name: own}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        for imported in _imports(module, found[module]):
            if imported in found or imported in _FORMAT or not imported.startswith(_roots(name)):
                continue
            file = _find(imported)
            if file is not None:
                found[imported] = file
                waiting.append(imported)
    digest = hashlib.sha256()
    for module in sorted(found, key=lambda module: (module != name, module)):
        file = found[module]
        for path in sorted({file, *file.parent.glob(f"{file.stem}.*")}):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _roots(recipe: str) -> tuple[str, ...]:
    """Beginnings of the names of modules that are followed: a recipe may lie in a package of the user's own."""
    return tuple(f"{root}." for root in {*_SHARED, recipe.partition(".")[0]})


def _imports(module: str, file: Path) -> Iterator[str]:
    """The modules that a module names in its imports. `from a import b` names `a`, and `a.b` if that is one."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            source = importlib.util.resolve_name(f"{dots}{node.module or ''}", package)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _find(module: str) -> Path | None:
    """A module's file; None if there is none of that name, or none that is Python. Imports nothing, not even packages."""
    root, *rest = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None:
        return None
    if not rest:
        files = [Path(spec.origin or "")]
    else:
        places = [Path(location, *rest) for location in spec.submodule_search_locations or ()]
        files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)
