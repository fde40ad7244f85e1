"""`sensorium token`: make tokens for callers, and see what is in one. Keys are in the state folder's `keys`."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, warn
from shared.files import write_atomically

app = typer.Typer(help="Make and inspect tokens.", no_args_is_help=True)

_DEFAULT_SCOPES = "vision,nlp,speech,mesh"
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@app.command()
def create(
    subject: Annotated[
        str, typer.Argument(help="Whom it is for; also the unit of the rate limit.", show_default=False)
    ],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            "-s",
            metavar="SCOPE,…",
            help="What it opens: a service's name, mesh, admin. [default: vision,nlp,speech,mesh]",
            show_default=False,
        ),
    ] = None,
    lifetime: Annotated[str, typer.Option(help="How long it is good, e.g. 12h or 90d.")] = "30d",
    tier: Annotated[str, typer.Option(help="Which rate limit it falls under.")] = "default",
    issuer: Annotated[str, typer.Option(help="Who issues it; as in mesh.yaml.")] = "sensorium",
    audience: Annotated[str, typer.Option(help="Whom it is shown to; as in mesh.yaml.")] = "sensorium",
    state_dir: StateDir = None,
) -> None:
    """Make a token and print it. The signing key is made on first use."""
    from cli.up.token_file import keys_folder
    from gateway.identity.key import load_or_create
    from gateway.identity.token import mint

    wanted = [scope.strip() for part in scopes or [_DEFAULT_SCOPES] for scope in part.split(",")]
    known = [*_DEFAULT_SCOPES.split(","), "admin"]
    if strange := [scope for scope in wanted if scope and scope not in known]:
        warn(
            f"--scope {','.join(strange)}: opens nothing unless mesh.yaml has such a service; "
            f"expected some of {', '.join(known)}"
        )
    lifetime_s = parse_lifetime(lifetime)
    try:
        text = mint(
            load_or_create(keys_folder(state_folder(state_dir))),
            subject=subject,
            scopes=[scope for scope in wanted if scope],
            lifetime_s=lifetime_s,
            tier=tier,
            issuer=issuer,
            audience=audience,
        )
    except ValueError as error:
        raise CommandError(str(error), exit_code=2) from error
    print(text)


@app.command()
def keys(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Print the public keys (a JWK set) by which a gateway knows tokens made here. The signing key is made on first use."""
    from cli.up.token_file import keys_folder
    from gateway.identity.key import PUBLIC_NAME, load_or_create, read_public_set

    folder = keys_folder(state_folder(state_dir))
    load_or_create(folder)
    text = read_public_set(folder / PUBLIC_NAME)
    if out is None:
        print(text)
        return
    try:
        write_atomically(out, f"{text}\n", mode=0o644)
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror}") from error


@app.command()
def rotate(state_dir: StateDir = None) -> None:
    """Sign from now on with a new key. Tokens made before stay good: the public keys of both are given out.

    Gateways read public keys when they start: give them `sensorium token keys` and restart them before the new key's tokens
    are used. When all tokens made before have been replaced: `sensorium token retire`.
    """
    from cli.up.token_file import keys_folder
    from gateway.identity import key

    made = key.rotate(keys_folder(state_folder(state_dir)))
    print(made.kid)
    warn(
        "tokens made from now on are refused until each gateway has the public keys (sensorium token keys) and was restarted"
    )


@app.command()
def retire(state_dir: StateDir = None) -> None:
    """Take back all public keys but that of today's signing key; prints how many. Tokens of the others are then refused.

    It is so once gateways have the new `sensorium token keys` and were restarted.
    """
    from cli.up.token_file import keys_folder
    from gateway.identity import key

    print(key.retire(keys_folder(state_folder(state_dir))))
    warn(
        "a gateway accepts tokens of the keys taken back until it has today's (sensorium token keys) and was restarted"
    )


@app.command()
def inspect(
    token: Annotated[
        str | None,
        typer.Argument(
            help="A token, a file that holds one, or `-` for stdin; default: the one that a client would use.",
            show_default=False,
        ),
    ] = None,
    issuer: Annotated[str, typer.Option(help="Who must have issued it.")] = "sensorium",
    audience: Annotated[str, typer.Option(help="Whom it must be meant for.")] = "sensorium",
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Show what a token says and whether the mesh of this state folder would accept it (exit code 0 or 1).

    Judged by the public keys of the state folder: a gateway that runs has those of its start.
    """
    from cli.up.token_file import keys_folder
    from gateway.identity.key import PUBLIC_NAME, read_public_keys
    from gateway.identity.token import inspect as read_token

    state = state_folder(state_dir)
    public = keys_folder(state) / PUBLIC_NAME
    keys = read_public_keys(public) if public.exists() else None
    try:
        found = read_token(_find(token, state), keys, issuer=issuer, audience=audience)
    except ValueError as error:
        raise CommandError(str(error)) from error
    problems = list(found.problems)
    if keys is None:
        problems.append(f"signature: not checked, there are no public keys in {public.parent}")
    if json_lines:
        print_json(
            {
                "header": found.header,
                "claims": found.claims,
                "verified": found.verified,
                "accepted": found.accepted,
                "problems": problems,
            }
        )
    else:
        print(f"subject   {found.claims.get('sub', '-')}")
        print(f"scopes    {', '.join(found.scopes) or '-'}")
        print(f"tier      {found.claims.get('tier', '-')}")
        print(f"expires   {_until(found.expires_at)}")
        print(f"id        {found.claims.get('jti', '-')}")
        print(f"accepted  {'yes' if found.accepted else 'no'}")
        for problem in problems:
            print(f"          {problem}")
    return 0 if found.accepted else 1


def parse_lifetime(text: str) -> float:
    """`90d`, `12h`, `30m`, `45s` in seconds.

    Raises:
        CommandError: anything else.
    """
    parts = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if parts is None or int(parts[1]) == 0:
        raise CommandError(
            f"--lifetime: expected a number with s, m, h or d, e.g. 12h; got {text!r}", exit_code=2
        )
    return float(int(parts[1]) * _UNITS_S[parts[2]])


def _find(given: str | None, state: Path) -> str:
    if given == "-":
        return sys.stdin.read()
    if given is None:
        import os

        from sensorium.connection import connection

        try:
            found = connection(environ={**os.environ, "SENSORIUM_STATE_DIR": str(state)}).token.read()
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        if not found:
            raise CommandError("no token: give one, set SENSORIUM_TOKEN, or run sensorium token create")
        return found
    if given.count(".") != 2 or "/" in given:
        try:
            return Path(given).read_text(encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"{given}: neither a token nor a file that can be read: {error.strerror}"
            ) from error
    return given


def _until(ends: datetime | None) -> str:
    if ends is None:
        return "-"
    left_s = (ends - datetime.now(UTC)).total_seconds()
    for unit, length_s in reversed(_UNITS_S.items()):
        if abs(left_s) >= 2 * length_s or unit == "s":
            count = int(abs(left_s) // length_s)
            break
    return f"{ends:%Y-%m-%d %H:%M:%S} UTC ({f'in {count} {unit}' if left_s > 0 else f'{count} {unit} ago'})"
