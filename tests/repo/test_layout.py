"""What holds of every file of the package."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "dask",
    "distributed",
    "flint",
    "gmpy2",
    "google.protobuf",
    "jinja2",
    "mpmath",
    "networkx",
    "numpy",
    "onnx",
    "onnxruntime",
    "scipy",
    "sympy",
)


def sources(root: Path) -> list[Path]:
    found = sorted((root / "certify").rglob("*.py"))
    assert len(found) > 50
    return found


def test_no_file_exceeds_400_lines(root: Path) -> None:
    lengths = {str(path.relative_to(root)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(root)}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_module_is_named_after_nothing(root: Path) -> None:
    assert [path for path in sources(root) if re.search(r"util|helper|common|manager", path.stem)] == []
    assert [path for path in (root / "certify").rglob("*") if path.is_dir() and re.search(r"util|helper|common|manager", path.name)] == []


def test_every_module_says_what_it_is(root: Path) -> None:
    silent = [path for path in sources(root) if (text := path.read_text(encoding="utf-8")) and not text.startswith('"""')]
    assert silent == []


def test_the_help_imports_nothing_heavy(root: Path) -> None:
    program = "import sys; from certify.cli.main import main; main(['--help']); print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert "--dtype" in done.stdout
    imported = set(done.stderr.split())
    assert "rich_click" in imported
    assert [name for name in HEAVY if name in imported] == []


def test_importing_the_package_is_light(root: Path) -> None:
    program = "import sys, certify; certify.InvalidData, certify.__version__; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert [name for name in (*HEAVY, "rich", "click") if name in done.stdout.split()] == []


def declared(root: Path) -> dict[str, str]:
    """Every requirement of pyproject.toml but onnxruntime-gpu's, as name: lower bound."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = {}
    for requirement in [*project["dependencies"], *extras["test"], *extras["dev"]]:
        name, bound = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        found[name] = bound
    return found


def test_every_dependency_has_its_reason(root: Path) -> None:
    reasons = (root / "docs/decisions/dependencies.md").read_text(encoding="utf-8")
    assert [name for name in declared(root) if name not in reasons] == []


def test_lower_bounds_are_not_above_what_is_tested(root: Path) -> None:
    def numbers(version: str) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", version)[:3]))

    for name, bound in declared(root).items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a development tool that this environment goes without
        assert numbers(bound) <= numbers(installed), name


def test_the_checker_contract_names_every_part(root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = next(set(c["forbidden_modules"]) for c in contracts if c.get("source_modules") == ["certify.checker"])
    parts = {path.stem for path in (root / "certify").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {f"certify.{part}" for part in parts - {"__init__", "__main__", "checker"}} == forbidden


@pytest.mark.parametrize(
    "document",
    ["README.md", "CHANGELOG.md", "models/README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))],
)
def test_links_lead_somewhere(root: Path, document: str) -> None:
    path = root / document
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target


def test_every_guide_is_run_by_a_test(root: Path) -> None:
    guides = sorted(path.name for path in (root / "docs").glob("adding-*.md"))
    assert len(guides) >= 3
    tests = "".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("test_*.py") if path != Path(__file__))
    assert [guide for guide in guides if guide not in tests] == []
