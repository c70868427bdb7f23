"""The process: runs the command line, and turns every ending into the exit code that it means."""

from __future__ import annotations

import os
import sys
import traceback


def main() -> None:
    """Run ``albert-audit``.

    Exit codes: 0 pass, 1 fail, 2 usage, policy or refused model, 3 incomplete or crashed, 4
    inconclusive, 130 interrupted.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them takes time and finds none
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ["ALBERT_AUDIT_DEBUG"] = "1"
    try:
        _run(debug=debug)
    except KeyboardInterrupt:
        _interrupted()


def _run(*, debug: bool) -> None:
    import typer

    from albert_audit.cli import app
    from albert_audit.types import AuditError

    try:
        app(standalone_mode=True)
    except SystemExit as exc:
        # Typer ends a command that was interrupted with 130 and says nothing, and one whose reader
        # went away with 1, which would read as "the model failed".
        if exc.code == 130:
            _interrupted()
        if exc.code == 1 and not isinstance(exc.__context__, typer.Exit):
            sys.exit(3)
        raise
    except AuditError as exc:
        if debug:
            traceback.print_exc()
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)
    except Exception as exc:
        # Python's own exit code 1 would read as "the model failed".
        if debug:
            traceback.print_exc()
        else:
            print(  # noqa: T201
                f"error: albert-audit itself failed: {type(exc).__name__}\n"
                "  → run again with --debug and report the traceback, in which words of your data may stand",
                file=sys.stderr,
            )
        sys.exit(3)


def _interrupted() -> None:
    print("interrupted; what was scored is kept: run the same command again to go on", file=sys.stderr)  # noqa: T201
    sys.exit(130)


if __name__ == "__main__":
    main()
