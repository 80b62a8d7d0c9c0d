"""`certify`: finds the command, runs it, and turns whatever happens into one clear line and an exit code.

0 certified · 1 budget or hazard · 2 usage, model or data · 3 no answer · 4 soundness alarm · 5 internal error · 130 interrupted.
A command is a file `certify/cli/NAME.py` that defines `NAME_command`, a click command whose return value is the exit
code; it is imported only when it is asked for. A first argument that is no command's name is a model path.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import rich_click as click

from certify.cli import interrupt, settings
from certify.errors import CertifyError, UsageError
from certify.version import __version__

DEFAULT = "certify"
INTERRUPTED = 130


def commands() -> dict[str, str]:
    """Every command but the default one, with the first line of its file's docstring, sorted by name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != DEFAULT:
            source = path.read_text(encoding="utf-8")
            if f"def {path.stem}_command(" in source:
                found[path.stem] = source.split("\n", 1)[0].strip('"').rstrip(".")
    return found


def load(name: str) -> click.Command:
    """The click command `name`."""
    command: click.Command = getattr(importlib.import_module(f"certify.cli.{name}"), f"{name}_command")
    return command


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` ask for; its exit code. Raises whatever the command raises."""
    name, rest = DEFAULT, list(arguments)
    if not rest:
        load(DEFAULT).main(["--help"], prog_name="certify", standalone_mode=False)
        return 2
    if rest[0] in commands():
        name = rest.pop(0)
    elif _is_misspelt(rest[0]):
        near = difflib.get_close_matches(rest[0], commands(), n=1)
        hint = f"; did you mean `certify {near[0]}`?" if near else ""
        raise UsageError(f"{rest[0]}: neither a model file nor a command{hint} (`certify --help` lists the commands)")
    program = "certify" if name == DEFAULT else f"certify {name}"
    defaults = settings.defaults(rest, Path.cwd()) if name == DEFAULT else None
    code = load(name).main(rest, prog_name=program, standalone_mode=False, default_map=defaults)
    return code if isinstance(code, int) else 0


def _is_misspelt(word: str) -> bool:
    return not word.startswith("-") and "." not in word and os.sep not in word and not Path(word).exists()


def main(arguments: Sequence[str] | None = None) -> int:
    """Like `run`, with every exception turned into one line on standard error and its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = bool({"--verbose", "-v"} & set(arguments))
    try:
        return run(arguments)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" (`{context.command_path} --help` lists the options)" if context is not None else ""
        return _say(f"error: {error.format_message()}{where}", 2, verbose)
    except CertifyError as error:
        return _say(f"error: {error}", error.exit_code, verbose)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", INTERRUPTED, verbose=False)
    except BrokenPipeError:
        # Whoever reads the output has had enough; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("error: out of memory; certify fewer cases at a time (--samples, fewer rows in --data)", 3, verbose)
    except Exception as error:  # noqa: BLE001 (the last line of defence: nothing is swallowed, it exits 5)
        _say(f"internal error: {type(error).__name__}: {error} ({_origin(error)})", 5, verbose)
        again = "" if verbose else "run again with --verbose for the traceback and "
        return _say(f"This is a defect of certify {__version__}: {again}report it with the command line and the model.", 5, verbose=False)


def _origin(error: BaseException) -> str:
    """The innermost place in certify that the error passed through, as module:line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "certify" in Path(f.filename).parts]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside certify"


def _say(line: str, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc(file=sys.stderr)
    sys.stderr.write(line + "\n")
    return code


def entry() -> None:
    """The console script: ends at once on Ctrl-C, even while native code computes."""
    interrupt.install()
    sys.exit(main())
