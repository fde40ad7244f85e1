"""What the builder in scratch roots does and refuses as a container engine would; RUN needs root and is not tried here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.images.scratch import Build, Stage, read_steps

DOCKERFILE = """\
FROM nobody-has-it AS unneeded
RUN false

FROM scratch AS build
ARG NAME=one
WORKDIR /made
COPY let/in here/
COPY let/in/file "${NAME}"

FROM scratch
COPY --from=build /made /
USER 65532:65532
"""


def build(folder: Path, text: str = DOCKERFILE, wanted: str = "") -> Stage:
    context = folder / "context"
    for name in ("let/in/file", "let/in/junk.egg-info", "let/out"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (folder / "ignore").write_text("*\n!let/in\n**/*.egg-info\n")
    (folder / "Dockerfile").write_text(text)
    (folder / "work").mkdir()
    made = Build(context, {}, folder / "work", {}, {}, folder / "ignore")
    return made.run(read_steps(folder / "Dockerfile"), {"NAME": "two"}, wanted)


def test_stages_that_are_not_needed_are_not_built(tmp_path: Path) -> None:
    stage = build(tmp_path)
    assert stage.user == "65532:65532"
    files = {str(path.relative_to(stage.root)) for path in stage.root.rglob("*") if path.is_file()}
    assert files == {"here/file", "two"}


def test_a_stage_is_built_by_name(tmp_path: Path) -> None:
    assert (build(tmp_path, wanted="build").root / "made/here/file").read_text() == "let/in/file"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("COPY let/out there", ".dockerignore keeps let/out out"),
        ("COPY let/nothing there", "there is no let/nothing"),
        ("ADD let/in there", "ADD is not known here"),
    ],
)
def test_what_an_engine_refuses_is_refused(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(says)):
        build(tmp_path, f"FROM scratch\n{line}\n")


def test_a_stage_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no stage nothing; there are: unneeded, build, 2"):
        build(tmp_path, wanted="nothing")
