"""PyTorch state files without PyTorch: reads what `torch.save` wrote, with numpy, into plain arrays.

Here: the two formats `torch.save` has written (a zip archive since 1.6, a row of pickles before). Not here:
what a tensor means, and graphs (`weights.py`).

A state file is a pickle, and a pickle is a program. It is never run freely: its opcodes are checked before
anything is loaded, and the only names it may speak are those in `_NAMES`, all of which build plain values.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

# How a pickle of torch's old format begins: one pickle of this number, then one of the protocol's version.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# A state file names at most some thousand tensors; these bounds stop nested or self-referring containers.
_MAX_DEPTH = 16
_MAX_VALUES = 200_000
# The pickle part holds names and shapes only: about 200 bytes a tensor.
_MAX_PICKLE_BYTES = 16 * 2**20
# The memo is an array indexed by what the file says, so an index is memory: bound it before loading.
_MAX_MEMO_INDEX = 1_000_000
# Every way in which the standard library reports a broken pickle or archive.
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, AttributeError, ImportError,
    IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError,
    NotImplementedError,
)  # fmt: skip


class _StorageType(NamedTuple):
    """One of torch's storage classes: the numpy dtype its bytes have on disk (little-endian)."""

    dtype: str
    bfloat16: bool = False


class _Storage(NamedTuple):
    """A reference to bytes that lie elsewhere in the file."""

    kind: _StorageType
    key: str
    length: int


class _View(NamedTuple):
    """A tensor as the file describes it: unchecked until its storage has been read."""

    storage: object
    offset: object
    size: object
    stride: object


class _StateDict(dict[object, object]):
    """Stands for `collections.OrderedDict`; the attributes that a file would set on it are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        del state


class _RebuildTensor:
    """Stands for `torch._utils._rebuild_tensor*`. An object without attributes: a file cannot alter it."""

    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, size: object, stride: object, *_rest: object
    ) -> _View:
        return _View(storage, offset, size, stride)


class _RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`: the tensor itself."""

    __slots__ = ()

    def __call__(self, data: object, *_rest: object) -> object:
        return data


_STORAGES = {
    "Double": _StorageType("<f8"), "Float": _StorageType("<f4"), "Half": _StorageType("<f2"),
    "BFloat16": _StorageType("<u2", bfloat16=True), "Long": _StorageType("<i8"), "Int": _StorageType("<i4"),
    "Short": _StorageType("<i2"), "Char": _StorageType("<i1"), "Byte": _StorageType("<u1"),
    "Bool": _StorageType("?"),
}  # fmt: skip
_NAMES: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _StateDict,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", f"{name}Storage"): kind for name, kind in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Builds lists, dicts, tuples, numbers, strings and `_View`s; everything else is refused by name."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise ValueError(
                f"it names {module}.{name}, which is not a tensor, dict, list or number"
            ) from None

    def persistent_load(self, pid: object) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("it refers to an object that is not a tensor's storage")
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or not _is_count(count):
            raise ValueError("a storage has no known type, key or length")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"storage {key!r} is a view of another one, which no file since torch 0.4 needs")
        return _Storage(kind, key, count)


def read_torch_tensors(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Read every tensor of a file written by `torch.save`, without torch and without running the file.

    Names of nested containers are joined with dots: `{"model": {"fc.weight": t}}` gives `model.fc.weight`,
    list items count from 0. Values that are not tensors are left out. Arrays are read-only views of the
    file's bytes (bfloat16, which numpy lacks, becomes float32).

    Raises:
        ValueError: the file is not a state file, is cut off or damaged, or holds anything but tensors, dicts,
            lists, tuples, strings and numbers. The message says what was found.
    """
    try:
        if content[:4] == b"PK\x03\x04":
            root, storages = _read_zip(content)
        else:
            root, storages = _read_legacy(content)
        return {name: _materialize(name, view, storages) for name, view in _walk(root)}
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"not a PyTorch state file that can be read: {reason}") from error


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _load_pickle(stream: io.BytesIO) -> object:
    """Load the one pickle at the stream's position and leave the position behind it."""
    start = stream.tell()
    for opcode, argument, _position in pickletools.genops(stream):
        index = argument if isinstance(argument, int) else 0
        if "PUT" in opcode.name and not 0 <= index <= _MAX_MEMO_INDEX:
            raise ValueError(f"its memo index {index} is beyond {_MAX_MEMO_INDEX}")
        if opcode.name.startswith(("EXT", "NEXT_BUFFER", "READONLY_BUFFER")):
            raise ValueError(f"it uses the opcode {opcode.name}, which no state file needs")
        if stream.tell() - start > _MAX_PICKLE_BYTES:
            raise ValueError(f"its pickle is longer than {_MAX_PICKLE_BYTES} bytes")
    # The loader reads ahead, so it gets exactly the bytes just checked.
    end = stream.tell()
    stream.seek(start)
    return _Unpickler(io.BytesIO(stream.read(end - start))).load()


def _read_zip(content: bytes) -> tuple[object, dict[str, memoryview]]:
    """torch >= 1.6: `<folder>/data.pkl` and `<folder>/data/<key>`, stored without compression."""
    storages: dict[str, memoryview] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {item.filename: item for item in archive.infolist()}
        roots = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise ValueError(
                f"the archive holds {len(roots)} data.pkl, expected 1 (a TorchScript or foreign zip?)"
            )
        folder = roots[0].removesuffix("data.pkl")
        # Compressed entries could unpack to any size; torch never writes them.
        if any(item.compress_type != zipfile.ZIP_STORED for item in entries.values()):
            raise ValueError("the archive is compressed; torch stores its entries as they are")
        # Bit 0: encrypted, says the format (APPNOTE 4.4.4).
        if any(item.flag_bits & 1 for item in entries.values()):
            raise ValueError("the archive is encrypted; torch stores its entries as they are")
        if sum(item.file_size for item in entries.values()) > len(content):
            raise ValueError("the archive's entries overlap")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in entries else b"little"
        if order != b"little":
            raise ValueError(f"byte order is {order[:16]!r}, expected little")
        root = _load_pickle(io.BytesIO(archive.read(roots[0])))
        for name in entries:
            if name.startswith(f"{folder}data/"):
                storages[name.removeprefix(f"{folder}data/")] = memoryview(archive.read(name))
    return root, storages


def _read_legacy(content: bytes) -> tuple[object, dict[str, memoryview]]:
    """torch < 1.6: pickles of magic, protocol, system, object and storage keys, then each storage's bytes."""
    stream = io.BytesIO(content)
    if _load_pickle(stream) != _LEGACY_MAGIC:
        raise ValueError("it begins like neither of torch's two formats")
    if (protocol := _load_pickle(stream)) != _LEGACY_PROTOCOL:
        raise ValueError(f"protocol {protocol!r}, expected {_LEGACY_PROTOCOL}")
    system = _load_pickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    root, keys = _load_pickle(stream), _load_pickle(stream)
    if not isinstance(keys, list) or len(keys) > _MAX_VALUES:
        raise ValueError("its list of storages is damaged")
    kinds = {
        view.storage.key: view.storage.kind
        for _name, view in _walk(root)
        if isinstance(view.storage, _Storage)
    }
    storages: dict[str, memoryview] = {}
    whole, position = memoryview(content), stream.tell()
    for key in keys:
        if not isinstance(key, str) or key not in kinds:
            raise ValueError(f"storage {key!r} belongs to no tensor")
        (count,) = struct.unpack_from("<q", whole, position)
        length = count * np.dtype(kinds[key].dtype).itemsize
        position += 8
        if count < 0 or position + length > len(content):
            raise ValueError(
                f"it is cut off: storage {key!r} asks for {length} bytes, {len(content) - position} are left"
            )
        storages[key] = whole[position : position + length]
        position += length
    return root, storages


def _walk(root: object) -> Iterator[tuple[str, _View]]:
    """Yield every tensor with its dotted name, within the bounds on depth and number."""
    seen: set[str] = set()
    pending: list[tuple[str, object, int]] = [("", root, 0)]
    visited = 0
    while pending:
        name, value, depth = pending.pop()
        visited += 1
        size = len(value) if isinstance(value, dict | list | tuple) else 0
        if visited + len(pending) + size > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError(f"it holds more than {_MAX_VALUES} values, or nests deeper than {_MAX_DEPTH}")
        if isinstance(value, _View):
            if name in seen:
                raise ValueError(f"two tensors are called {name!r}")
            seen.add(name)
            yield name, value
            continue
        if isinstance(value, dict):
            items = [(str(key), item) for key, item in dict.items(value)]
        elif isinstance(value, list | tuple) and not isinstance(value, _Storage | _StorageType):
            items = [(str(index), item) for index, item in enumerate(value)]
        else:
            continue
        # Reversed, so that the stack hands them out in the file's order.
        pending += [(f"{name}.{key}" if name else key, item, depth + 1) for key, item in reversed(items)]


def _materialize(name: str, view: _View, storages: Mapping[str, memoryview]) -> NDArray[np.generic]:
    """Turn a described tensor into an array over its storage's bytes, checking that it lies inside them."""
    storage, offset, size, stride = view
    if not isinstance(storage, _Storage) or storage.key not in storages:
        raise ValueError(f"tensor {name!r} has no storage in the file")
    if not _is_count(offset) or not _are_counts(size) or not _are_counts(stride) or len(size) != len(stride):
        raise ValueError(
            f"tensor {name!r}: offset {offset!r}, size {size!r} or stride {stride!r} is not valid"
        )
    flat = np.frombuffer(storages[storage.key], dtype=storage.kind.dtype)
    shape = tuple(size)
    reach = offset + 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if math.prod(shape) > 0 and (reach > flat.size or math.prod(shape) > flat.size):
        raise ValueError(f"tensor {name!r} of shape {shape} reaches past its storage of {flat.size} numbers")
    if math.prod(shape) == 0:
        array: NDArray[np.generic] = np.empty(shape, dtype=flat.dtype)
    else:
        # The stride of an axis of length 1 is never used and may be any number.
        steps = tuple(
            step * flat.itemsize if length > 1 else 0 for length, step in zip(shape, stride, strict=True)
        )
        array = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    if storage.kind.bfloat16:
        # bfloat16 is the upper half of a float32.
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def _are_counts(value: object) -> TypeGuard[Sequence[int]]:
    return (
        isinstance(value, tuple | list)
        and len(value) <= _MAX_DEPTH
        and all(_is_count(item) for item in value)
    )
