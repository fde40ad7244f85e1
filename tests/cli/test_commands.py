"""The command as its user meets it: what it prints where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.place import ROOT
from tests.clients.mesh_in_process import Seen, start

WAIT_S = 60


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Seen]:
    """A mesh in this process, found through the environment."""
    seen = Seen()
    server, address = start(seen)
    monkeypatch.setenv("SENSORIUM_ADDRESS", address)
    monkeypatch.setenv("SENSORIUM_TOKEN", "secret")
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    yield seen
    server.stop(None).wait(10)


def run(
    *arguments: str, stdin: bytes = b"", cwd: Path = ROOT, **environ: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=WAIT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "command",
    [[], ["up"], ["status"], ["models", "pull"], ["token", "create"], ["vision", "classify"], ["demo"]],
)
def test_every_command_helps(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "Usage: sensorium" in capsys.readouterr().out


def test_the_process_ends_with_the_codes_that_are_promised(mesh: Seen, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"cat")
    good = run("vision", "classify", str(tmp_path / "image"))
    assert (good.returncode, good.stderr) == (0, "")
    assert "\x1b" not in good.stdout
    refused = run("vision", "classify", "-", stdin=b"bad")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("sensorium: -: INVALID_ARGUMENT: images[0].content: expected an image")
    wrong = run("vision", "clasify", "x")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines() == [
        "sensorium: No such command 'clasify'. Did you mean 'classify'? (see sensorium vision --help)"
    ]


def test_nobody_to_ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_ADDRESS", "127.0.0.1:1")
    assert main(["status"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "nobody answers at 127.0.0.1:1" in said.err
    assert main(["status", "--address", "ftp://x"]) == 2
    assert "expected host:port" in capsys.readouterr().err


def test_files_patterns_and_stdin(mesh: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.img", "a.img", "c.txt"):
        (tmp_path / name).write_bytes(name.encode())
    assert main(["vision", "classify", f"{tmp_path}/*.img", str(tmp_path / "c.txt")]) == 0
    said = capsys.readouterr()
    assert [line.strip() for line in said.out.splitlines()] == [
        str(tmp_path / "a.img"),
        "50.0%  a.img",
        str(tmp_path / "b.img"),
        "50.0%  b.img",
        str(tmp_path / "c.txt"),
        "50.0%  c.txt",
    ]


def test_one_json_line_per_input_whatever_happens_to_it(
    mesh: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("good", b"cat"), ("bad", b"bad")):
        (tmp_path / name).write_bytes(content)
    names = [str(tmp_path / name) for name in ("good", "nothing", "bad")]
    assert main(["vision", "classify", *names, f"{tmp_path}/*.png", str(tmp_path), "--json"]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    good, missing, bad, no_match, folder = lines_of(said.out)
    assert good["input"] == names[0]
    assert good["labels"] == [{"label": "cat", "index": 0, "score": 0.5}]
    assert good["model"] == {"name": "test/model", "version": "7"}
    assert missing["error"] == {"code": "UNREADABLE", "message": "no such file or directory"}
    assert bad["error"]["code"] == "INVALID_ARGUMENT"  # type: ignore[index]
    assert no_match["error"] == {"code": "UNREADABLE", "message": "no file matches"}
    assert "directory" in folder["error"]["message"]  # type: ignore[index]


def test_many_inputs_keep_their_order(mesh: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.img").write_bytes(f"image {number}".encode())
    assert main(["vision", "classify", f"{tmp_path}/*.img", "--json"]) == 0
    labels = [line["labels"][0]["label"] for line in lines_of(capsys.readouterr().out)]  # type: ignore[index]
    assert labels == [f"image {number}" for number in range(40)]


def test_every_call_has_its_command(mesh: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"12345")
    expected = {
        ("vision", "detect"): "person",
        ("vision", "faces"): "50.0%",
        ("vision", "read"): "hello",
        ("vision", "embed"): "2 numbers",
        ("speech", "transcribe"): "5 bytes",
        ("speech", "detect"): "0.75 s of speech",
        ("speech", "embed"): "2 numbers",
    }
    for command, says in expected.items():
        assert main([*command, str(file)]) == 0
        assert says in capsys.readouterr().out
        assert main([*command, str(file), "--json"]) == 0
        (line,) = lines_of(capsys.readouterr().out)
        assert line["input"] == str(file)
    assert main(["speech", "transcribe", str(file), "--segments"]) == 0
    assert "0.50     1.25  one  (cut off)" in capsys.readouterr().out
    assert main(["speech", "transcribe", str(file), "--raw-rate", "8000", "--raw-encoding", "f32le"]) == 0
    assert (mesh.requests[-1].audio.sample_rate_hz, mesh.requests[-1].audio.channel_count) == (8000, 1)
    assert main(["speech", "transcribe", str(file), "--raw-rate", "8000", "--raw-encoding", "mp3"]) == 2


def test_texts_come_from_arguments_files_and_stdin(
    mesh: Seen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text"
    file.write_text("from a file\nwith two lines")
    assert main(["nlp", "embed", "one", "two words", "--file", str(file), "--json"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert [line["input"] for line in lines] == ["one", "two words", str(file)]
    assert [line["token_count"] for line in lines] == [1, 2, 6]
    said = run("nlp", "classify", "-", "-l", "about food, about sports", "--json", stdin=b"goal!\n\nlunch\n")
    assert [line["input"] for line in lines_of(said.stdout)] == ["goal!", "lunch"]
    assert list(mesh.requests[-1].candidate_labels) == ["about food", "about sports"]
    file.write_bytes(b"\xff\xfe")
    assert main(["nlp", "embed", "--file", str(file)]) == 1
    assert "expected text in UTF-8, got byte 0xff" in capsys.readouterr().err
    assert main(["nlp", "embed"]) == 2
    assert "no text" in capsys.readouterr().err


def test_what_the_answer_is_worth_is_said(mesh: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nlp", "embed", "привет"]) == 0
    assert "not trained on this script" in capsys.readouterr().err


def test_status_as_tables_and_as_json(mesh: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    # Nothing of this mesh is ready: that is an answer, and exit code 1.
    assert main(["status"]) == 1
    said = capsys.readouterr().out
    assert "127.0.0.1:1  unreachable  1 of 1        connection refused" in said
    assert "nlp/minilm  1        ready  1 of 2" in said
    assert main(["status", "--json"]) == 1
    (line,) = lines_of(capsys.readouterr().out)
    assert line["models"][0]["name"] == "minilm"  # type: ignore[index]


def test_a_reader_that_leaves_early(mesh: Seen, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.img").write_bytes(b"image")
    piped = f"{sys.executable} -m cli vision classify '{tmp_path}/*.img' | head -1"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.stdout.strip(), done.stderr) == (str(tmp_path / "00.img"), "")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_names_that_the_terminal_cannot_show_end_nothing(mesh: Seen, tmp_path: Path, encoding: str) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xbc.img"
    for path in (os.fsencode(tmp_path / "a.img"), odd, os.fsencode(tmp_path / "z.img")):
        Path(os.fsdecode(path)).write_bytes(b"image")
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "cli", "vision", "classify", str(tmp_path / "*.img"), *options],
            cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"z.img" in done.stdout
        if options:
            assert [json.loads(line)["input"] for line in done.stdout.splitlines()][1] == os.fsdecode(odd)


def test_tokens_are_made_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state-dir", str(tmp_path)]
    assert main(["token", "create", "somebody", "-s", "nlp,mesh", "--lifetime", "12h", *state]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["token", "inspect", token, *state]) == 0
    said = capsys.readouterr().out
    assert "subject   somebody\nscopes    nlp, mesh\n" in said
    assert "(in 11 h)" in said or "(in 12 h)" in said
    assert main(["token", "inspect", token, "--json", *state]) == 0
    (line,) = lines_of(capsys.readouterr().out)
    assert (line["accepted"], line["claims"]["tier"]) == (True, "default")  # type: ignore[index]
    assert main(["token", "inspect", token, "--state-dir", str(tmp_path / "other")]) == 1
    assert "signature: not checked" in capsys.readouterr().out
    altered = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert main(["token", "inspect", altered, *state]) == 1
    assert "signature: " in capsys.readouterr().out
    assert main(["token", "inspect", "no-token", *state]) == 1
    assert "neither a token nor a file" in capsys.readouterr().err


@pytest.mark.parametrize("lifetime", ["0d", "12", "-1h", "1w", "99999999999d"])
def test_a_lifetime_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], lifetime: str) -> None:
    assert main(["token", "create", "x", f"--lifetime={lifetime}", "--state-dir", str(tmp_path)]) == 2
    assert "--lifetime: expected" in capsys.readouterr().err


def test_models_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state-dir", str(tmp_path)]
    assert main(["models", "list", "--json", *state]) == 0
    models = {line["model"]: line for line in lines_of(capsys.readouterr().out)}
    assert models["nlp/minilm"]["pulled"] == ""
    assert main(["models", "list", "nlp", *state]) == 0
    assert "nlp/minilm" in capsys.readouterr().out
    assert main(["models", "show", "minilm", *state]) == 0
    said = capsys.readouterr().out
    assert "no: run sensorium models pull nlp/minilm" in said
    assert "Apache-2.0" in said
    assert main(["models", "show", "nothing", *state]) == 2
    assert "no model is called 'nothing'; there are" in capsys.readouterr().err


def test_pulling_without_a_network_says_so_once(tmp_path: Path) -> None:
    done = run(
        *("models", "pull", "minilm", "--json", "--state-dir", str(tmp_path)),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:1/simple/",
        PIP_FIND_LINKS="",
        PIP_NO_CACHE_DIR="1",
    )
    assert done.returncode == 1
    (line,) = lines_of(done.stdout)
    assert (line["model"], line["state"]) == ("nlp/minilm", "failed")
    assert [told for told in done.stderr.splitlines() if not told.startswith("fetching ")] == [line["reason"]]
    assert "cannot be reached" in str(line["reason"])


def test_a_mesh_without_models_is_refused_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--state-dir", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "run sensorium models pull vision" in said.err


def test_bad_options_of_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--replicas", "vision=many"]) == 2
    assert "expected SERVICE=COUNT" in capsys.readouterr().err
    config = tmp_path / "mesh.yaml"
    config.write_text("services: 7\n")
    assert main(["up", "--config", str(config)]) == 1
    assert capsys.readouterr().err.startswith(f"sensorium: {config}:1: services")
    assert main(["up", "--port", "99999"]) == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_closed(mesh: Seen, closed: str) -> None:
    command = f'"{sys.executable}" -m cli vision classify - {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["status"], ["models", "list"], ["nlp", "embed", "hi"]])
def test_an_output_that_is_full_is_said_to_be(mesh: Seen, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
