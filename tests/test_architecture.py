"""Who may import whom: the arrows of the house form a DAG."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROOMS = ("configs", "model", "input_pipeline", "train")
FORBIDDEN = {"tensorflow", "torch", "transformers", "pickle", "clu"}


def files(room):
    return sorted((ROOT / room).rglob("*.py"))


def imports(path):
    """Top-level names of the modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("room", ["configs", "model", "input_pipeline"])
def test_rooms_import_nothing_of_ours(room):
    assert len(files(room)) > 3
    for path in files(room):
        for name in imports(path):
            top = name.split(".")[0]
            assert top == room or top not in ROOMS, f"{path} imports {name}"


def test_flax_lives_in_model_only():
    users = {room for room in ROOMS for path in files(room) for n in imports(path) if "flax" in n}
    assert users == {"model"}


def test_configs_hold_plain_values():
    for path in files("configs"):
        tops = {name.split(".")[0] for name in imports(path)}
        assert tops <= {"configs", "ml_collections", "difflib", "typing", "collections"}, path


@pytest.mark.parametrize("room", ROOMS)
def test_no_second_tensor_language(room):
    for path in files(room):
        for name in imports(path):
            assert name.split(".")[0] not in FORBIDDEN, f"{path} imports {name}"


def test_modules_form_a_dag():
    ours = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ROOMS
        for path in files(room)
    }
    arrows = {}
    for module, path in ours.items():
        names = {module, *imports(path)}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):  # `from a import b` may mean the module a.b
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        # Whoever imports a.b.c runs the packages a and a.b first; so does a.b.c itself.
        runs = {n.rsplit(".", k)[0] for n in names for k in range(n.count(".") + 1)}
        arrows[module] = (runs & ours.keys()) - {module}
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        path.append(module)
        for target in sorted(arrows[module]):
            visit(target)
        path.pop()
        done.add(module)

    for module in sorted(ours):
        visit(module)
    assert len(done) > 30
    assert arrows["train.loop"]


def test_nothing_forbidden_is_loaded_by_training():
    code = (
        "import sys, train.main, train.loop, train.generate, train.benchmark; print(*sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"tensorflow", "torch", "transformers"} & set(out.stdout.split())


@pytest.mark.parametrize("room", ROOMS)
def test_files_stay_readable(room):
    for path in files(room):
        assert len(path.read_text().splitlines()) <= 300, path
        assert path.stem != path.parent.name, f"{path} is named like its package"
