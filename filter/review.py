"""`python -m filter.review RUN`: people check the pairs, one at a time, on a page of this machine alone."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from data.errors import UserError, missing_package, run_cli

if TYPE_CHECKING:
    from filter.review_desk import Desk

ABOUT = """Serves a page on 127.0.0.1 that shows the pairs of a run one by one: A approve, R reject,
E edit, U undo, arrows to move. Every decision is in RUN/reviews.jsonl at once; `python -m data.build RUN`
applies them. For people who prefer a spreadsheet: --export FILE.csv; --import FILE.csv --reviewer NAME."""
PORT = 8765
# Readable by its owner only; the address stays good after a restart.
TOKEN_FILE = ".review-token"  # noqa: S105


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m filter.review", description=ABOUT)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, filtered")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of 127.0.0.1 (default: {PORT})")
    parser.add_argument("--reviewer", metavar="NAME", help="your name, as the decisions carry it")
    parser.add_argument(
        "--export", type=Path, metavar="FILE.csv", help="write pairs and --reviewer's decisions, and stop"
    )
    parser.add_argument(
        "--import", type=Path, metavar="FILE.csv", dest="table", help="take over decisions, and stop"
    )
    parser.add_argument("--agreement", action="store_true", help="print reviewers' agreement, and stop")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    from data.run_folder import locked, read_plan
    from filter.rescore import AuditorProcess
    from filter.review_desk import Desk, check_name

    folder: Path = arguments.run
    plan = read_plan(folder)
    if arguments.reviewer is not None:
        arguments.reviewer = check_name(arguments.reviewer)
    if arguments.table and not arguments.reviewer:
        raise UserError("--import needs --reviewer NAME: whose decisions are they?")
    scorer = AuditorProcess(folder / f"{plan.stages[-1]}.jsonl", plan.embedder)
    with locked(folder, "RUN"):
        desk = Desk(folder, scorer)
        try:
            if arguments.export or arguments.table or arguments.agreement:
                _without_page(desk, arguments)
            else:
                _serve(desk, arguments)
        finally:
            desk.close()
            scorer.close()
    return 0


def _without_page(desk: Desk, arguments: argparse.Namespace) -> None:
    from filter.review_table import export_table, import_table

    if arguments.export:
        export_table(desk, arguments.export, arguments.reviewer)
        print(f"{arguments.export}: fill in `decision`, `reason`, `new_instruction`; then --import it.")
    if arguments.table:
        taken = import_table(desk, arguments.table, arguments.reviewer)
        print(f"{arguments.table}: {taken} decisions of {arguments.reviewer} taken over.")
        desk.audit_edits(desk.unaudited())
    if arguments.agreement:
        print_agreement(desk)


def _serve(desk: Desk, arguments: argparse.Namespace) -> None:
    """Until Ctrl-C. Edits that a kill left without an audit get theirs now."""
    try:
        import uvicorn

        from filter.review_app import make_app
    except ImportError as error:
        raise missing_package("fastapi and uvicorn", "review") from error
    from threading import Thread

    listening = _listen(arguments.port)
    port = listening.getsockname()[1]
    token = _token(desk.folder)
    named = {"reviewer": arguments.reviewer} if arguments.reviewer else {}
    print(f"Review {desk.folder} at\n  http://127.0.0.1:{port}/?{urlencode({'token': token} | named)}")
    print("Ctrl-C ends it; every decision is already in reviews.jsonl.", flush=True)
    if waiting := desk.unaudited():
        Thread(target=desk.audit_in_background, args=(waiting,), daemon=True).start()
    # The access log would print the token.
    settings = uvicorn.Config(make_app(desk, token, port), log_level="warning", access_log=False, ws="none")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listening])
    print_agreement(desk)


def _listen(port: int) -> socket.socket:
    """A socket on the loopback address and on no other."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()  # before the address is printed: who opens it at once waits instead of failing
    except (OSError, OverflowError) as error:
        raise UserError(
            f"Port {port} cannot be used ({error}): name another --port, or 0 for any."
        ) from error
    return listening


def _token(folder: Path) -> str:
    """The run's token; made at the first start, so that a tab outlives a restart of the server.

    A file that a full disk or a kill left empty is no token: it would let everybody in.
    """
    path = folder / TOKEN_FILE
    known = path.read_text().strip() if path.exists() else ""
    if known:
        return known
    path.unlink(missing_ok=True)
    token = secrets.token_urlsafe(24)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


def print_agreement(desk: Desk) -> None:
    """Who decided on how many pairs, and how far they agree."""
    from data.reviews import agreements

    names = sorted({name for standing in desk.stand.values() for name in standing.decisions})
    for name in names:
        own = [each.decisions[name].action for each in desk.stand.values() if name in each.decisions]
        print(f"{name}: {own.count('approve')} approved, {own.count('reject')} rejected", file=sys.stderr)
    for each in agreements(desk.stand):
        kappa = "not defined: both said the same of all" if each.kappa is None else f"{each.kappa:.2f}"
        print(
            f"{each.one} and {each.other}: agree on {each.share:.0%} of {each.pairs} pairs, "
            f"Cohen's kappa {kappa}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_cli(main)
