"""Reading state files: two real ones that PyTorch 2.13 wrote, and files that want to do harm.

`data/state_zip.pt` and `data/state_legacy.pt` hold the same object: {"step": 3, "model": {eight tensors}, "groups":
[a parameter, a string, a number]}, made with `torch.save` in its present and its old format.
"""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.weights import read_torch_tensors

DATA = Path(__file__).parent / "data"
ZIP, LEGACY = (DATA / "state_zip.pt").read_bytes(), (DATA / "state_legacy.pt").read_bytes()
MAGIC, PROTOCOL, SYSTEM = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}

# A tensor of 4 floats in storage "0", as opcodes: what every hostile variant below starts from.
STORAGE = b"ctorch\nFloatStorage\n"


def tensor(
    *,
    storage: bytes = STORAGE,
    key: str = "0",
    count: int = 4,
    offset: int = 0,
    size: int = 4,
    stride: int = 1,
):
    """The pickle of {"w": one tensor}."""
    entry = f"(S'storage'\n{storage.decode()}S'{key}'\nS'cpu'\nI{count}\ntQ".encode()
    rest = f"I{offset}\n(I{size}\nt(I{stride}\ntI00\n(dtR".encode()
    return b"(dS'w'\nctorch._utils\n_rebuild_tensor_v2\n(" + entry + rest + b"s."


def zipped(
    program: bytes,
    *,
    storages: dict[str, bytes] | None = None,
    compression=zipfile.ZIP_STORED,
    **extra: bytes,
):
    """A file of the present format around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in (storages or {"0": np.arange(4, dtype="<f4").tobytes()}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in extra.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def legacy(program: bytes, *, keys: object = ("0",), counts: tuple[int, ...] = (4,), system: object = SYSTEM):
    """A file of the old format around a pickle."""
    head = b"".join(pickle.dumps(item, 2) for item in (MAGIC, PROTOCOL, system))
    body = b"".join(struct.pack("<q", count) + np.arange(4, dtype="<f4").tobytes() for count in counts)
    return head + program + pickle.dumps(list(keys), 2) + body


@pytest.mark.parametrize("content", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_reads_what_torch_wrote(content: bytes) -> None:
    tensors = read_torch_tensors(content)
    ramp = np.arange(12, dtype=np.float32)
    expected = {
        "model.weight": ramp.reshape(3, 4),
        "model.turned": ramp.reshape(3, 4).T,
        "model.part": ramp[4:8],
        "model.count": np.int64(7),
        "model.half": np.array([1.5, -2], np.float16),
        "model.brain": np.array([1.5, -2], np.float32),
        "model.mask": np.array([True, False]),
        "model.none": np.zeros((0, 3), np.float32),
        "groups.0": np.ones((2, 2), np.float32),
    }
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value, err_msg=name)
        assert tensors[name].dtype == value.dtype, name


def test_the_crafted_files_are_read_when_nothing_is_wrong() -> None:
    for content in (zipped(tensor()), legacy(tensor())):
        np.testing.assert_array_equal(read_torch_tensors(content)["w"], [0, 1, 2, 3])


def test_arrays_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_torch_tensors(LEGACY)["model.weight"][0] = 1


class Harm:
    """Pickles as a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_program_is_refused_before_it_runs(wrap, protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = pickle.dumps({"w": Harm(trace)}, protocol)
    with pytest.raises(ValueError, match="mkdir, which is not a tensor"):
        read_torch_tensors(wrap(program))
    assert not trace.exists()
    pickle.loads(program)
    assert trace.exists(), "the program is harmless, so the test proved nothing"


def test_a_program_in_place_of_the_magic_number_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ValueError, match="not a tensor"):
        read_torch_tensors(pickle.dumps(Harm(trace), 2) + LEGACY)
    assert not trace.exists()


HOSTILE = {
    "eval": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
    "attribute": (b"ctorch._utils\n_rebuild_tensor_v2.__call__\n.", "not a tensor"),
    "other torch name": (b"ctorch\nload\n.", "torch.load"),
    "instance": (b"(S'ls'\nios\nsystem\n.", "os.system"),
    "extension": (b"\x82\x01.", "EXT1"),
    "buffer": (b"\x97.", "NEXT_BUFFER"),
    "memo bomb": (b"Nr\xff\xff\xff\x7f0N.", "memo index"),
    "memo of text": (b"Np99999999999\n.", "memo index"),
    "foreign object": (b"(S'module'\nNtQ.", "storage"),
    "no storage type": (b"(S'storage'\nNS'0'\nS'cpu'\nI4\ntQ.", "no known type"),
    "unfinished": (b"(dS'w'\n", "pickle exhausted|opcode"),
    "empty stack": (b"R.", "not a PyTorch"),
    "text of 2 GB": (b"X\xff\xff\xff\x7fabc.", "not a PyTorch"),
}


@pytest.mark.parametrize("wrap", [zipped, legacy])
@pytest.mark.parametrize(("program", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused(wrap, program: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_torch_tensors(wrap(program))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"size": 5}, "reaches past"),
        ({"offset": 1}, "reaches past"),
        ({"offset": -1}, "offset -1"),
        ({"stride": -1}, "stride"),
        ({"stride": 2**62}, "reaches past"),
        ({"size": 2**40, "stride": 0}, "reaches past"),
        ({"key": "9"}, "no storage|belongs to no tensor"),
        ({"storage": b"ctorch\nComplexFloatStorage\n"}, "ComplexFloatStorage"),
    ],
    ids=str,
)
@pytest.mark.parametrize("wrap", [zipped, legacy])
def test_tensors_that_reach_outside_are_refused(wrap, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_torch_tensors(wrap(tensor(**fields)))


def test_a_state_cannot_change_the_reader() -> None:
    """BUILD sets attributes on what it meets; on the objects that stand for torch's functions it must fail."""
    poison = b"ctorch._utils\n_rebuild_tensor_v2\n}S'__call__'\nNsb."
    with pytest.raises(ValueError, match="not a PyTorch state file"):
        read_torch_tensors(zipped(poison))
    assert list(read_torch_tensors(zipped(tensor()))) == ["w"]


def test_containers_that_contain_themselves_end() -> None:
    with pytest.raises(ValueError, match="nests deeper"):
        read_torch_tensors(zipped(b"(lp0\ng0\na."))
    doubling = b"(lp0\n0" + b"".join(b"(lp%d\ng%d\nag%d\na0" % (i + 1, i, i) for i in range(15)) + b"g15\n."
    assert read_torch_tensors(zipped(doubling)) == {}
    tenfold = (
        b"(lp0\n0" + b"".join(b"(lp%d\n%s0" % (i + 1, b"g%d\na" % i * 10) for i in range(12)) + b"g12\n."
    )
    with pytest.raises(ValueError, match="more than 200000 values"):
        read_torch_tensors(zipped(tenfold))


def test_archives_that_torch_does_not_write_are_refused() -> None:
    with pytest.raises(ValueError, match="compressed"):
        read_torch_tensors(zipped(tensor(), compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="byte order is b'big'"):
        read_torch_tensors(zipped(tensor(), byteorder=b"big"))
    encrypted = bytearray(zipped(tensor()))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1  # the flags in the first entry of the directory
    with pytest.raises(ValueError, match="encrypted"):
        read_torch_tensors(bytes(encrypted))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=r"0 data\.pkl"):
        read_torch_tensors(stream.getvalue())


def test_old_files_that_do_not_add_up_are_refused() -> None:
    for content, reason in [
        (legacy(tensor(), counts=(2**40,)), "cut off"),
        (legacy(tensor(), counts=(-1,)), "cut off"),
        (legacy(tensor(), keys=("0", "1"), counts=(4, 4)), "belongs to no tensor"),
        (legacy(tensor(), keys=(["0"],)), "belongs to no tensor"),
        (legacy(tensor(), system={"little_endian": False}), "little-endian"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(7, 2), "protocol 7"),
        (pickle.dumps([1], 2), "neither of torch's two formats"),
        (b"", "not a PyTorch state file"),
        (b"PK\x03\x04", "not a PyTorch state file"),
        (b"<html>", "not a PyTorch state file"),
    ]:
        with pytest.raises(ValueError, match=reason):
            read_torch_tensors(content)


@pytest.mark.parametrize("content", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_every_cut_is_noticed(content: bytes) -> None:
    for length in range(0, len(content), 7):
        with pytest.raises(ValueError, match="not a PyTorch state file"):
            read_torch_tensors(content[:length])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([ZIP, LEGACY]), st.data())
def test_damage_is_refused_or_read_but_never_anything_else(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensors = read_torch_tensors(bytes(damaged))
    except ValueError:
        return
    assert sum(array.nbytes for array in tensors.values()) <= 4 * len(content)
