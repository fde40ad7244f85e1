"""What a request asks for beside its tensors: haste, classes, how the reply's elements are to lie.

Here: reading the parameters of a call, an input and an output; each that cannot be had is refused by its name. A
parameter that is 0, false or "" says nothing, as clients send it for "not used". Not here: tensors (`request.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import MAX_VIOLATIONS, InvalidArgument
from shared.rpc.caller import Priority

Parameters = Mapping[str, pb.InferParameter]

# Says in a stream whether an empty reply is wanted after the last one of a request. A request gets exactly one reply here,
# and in a stream that one says that it is the last.
EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
_OF_CALL = frozenset({"timeout", "priority", "binary_data_output", EMPTY_FINAL_RESPONSE})
# How many bytes of an HTTP body belong to the input; in a gRPC message they lie in fields of their own.
_OF_INPUT = frozenset({"binary_data_size"})
_OF_OUTPUT = frozenset({"classification", "binary_data"})
_SEQUENCE = "sequences of calls: no model keeps a state between calls, send each call whole"
_SHARED_MEMORY = "shared memory: send the tensor in the request"
# What the protocol's extensions would do with a parameter, for those that are not offered.
_NOT_OFFERED = {
    "sequence_id": _SEQUENCE,
    "sequence_start": _SEQUENCE,
    "sequence_end": _SEQUENCE,
    "shared_memory_region": _SHARED_MEMORY,
    "shared_memory_offset": _SHARED_MEMORY,
    "shared_memory_byte_size": _SHARED_MEMORY,
}
# Priorities of the protocol: 0 names none, 1 goes first. There are two here.
PRIORITY_LEVELS = 2
# Whole numbers are sent as one or the other.
_WHOLE = ("int64_param", "uint64_param")


def check_of_call(parameters: Parameters) -> list[InvalidArgument]:
    """What is wrong with a call's parameters."""
    wrong = _check_known("parameters", parameters, _OF_CALL)
    for key in ("timeout", "priority"):
        wrong += _check_whole(f'parameters["{key}"]', parameters, key)
    for key in ("binary_data_output", EMPTY_FINAL_RESPONSE):
        wrong += _check_bool(f'parameters["{key}"]', parameters, key)
    return wrong


def check_of_input(where: str, parameters: Parameters) -> list[InvalidArgument]:
    """What is wrong with an input's parameters; `where` is the field, e.g. `inputs[0].parameters`."""
    return _check_known(where, parameters, _OF_INPUT)


def check_of_output(where: str, parameters: Parameters, datatype: str) -> list[InvalidArgument]:
    """What is wrong with the parameters of an output of a datatype; `where` is the field."""
    wrong = _check_known(where, parameters, _OF_OUTPUT)
    wrong += _check_bool(f'{where}["binary_data"]', parameters, "binary_data")
    field = f'{where}["classification"]'
    wrong += _check_whole(field, parameters, "classification")
    if not wrong and datatype in ("BOOL", "BYTES") and read_classes(parameters):
        wrong.append(
            InvalidArgument(
                field, expected="an output of numbers", got=datatype, fix="ask for the output itself"
            )
        )
    return wrong


def read_timeout_s(parameters: Parameters) -> float | None:
    """Seconds that the call may take from now on; None if it does not say, or says 0."""
    microseconds = _read_whole(parameters, "timeout")
    return microseconds / 1e6 if microseconds else None


def read_priority(parameters: Parameters) -> Priority | None:
    """What `priority` stands for: 1 is interactive, anything above gives way; None if it does not say, or says 0."""
    level = _read_whole(parameters, "priority")
    if not level:
        return None
    return Priority.INTERACTIVE if level == 1 else Priority.BATCH


def read_classes(parameters: Parameters) -> int:
    """How many of an output's highest values are wanted as classes; 0 where the output itself is."""
    return _read_whole(parameters, "classification")


def read_flag(parameters: Parameters, key: str) -> bool | None:
    """A truth value; None if it is not there."""
    parameter = parameters.get(key)
    return None if parameter is None else parameter.bool_param


def is_haste(parameters: Parameters) -> bool:
    """Whether there is a right timeout, a right priority, and nothing else."""
    for key, parameter in parameters.items():
        if key not in ("timeout", "priority"):
            return False
        choice = parameter.WhichOneof("parameter_choice")
        if choice not in _WHOLE or getattr(parameter, choice) < 0:
            return False
    return True


def _read_whole(parameters: Parameters, key: str) -> int:
    parameter = parameters.get(key)
    if parameter is None:
        return 0
    # One of them is set; the other is 0.
    return parameter.int64_param or parameter.uint64_param


def _check_known(where: str, parameters: Parameters, known: Collection[str]) -> list[InvalidArgument]:
    wrong: list[InvalidArgument] = []
    for key in sorted(parameters):
        if key in known or not _is_set(parameters[key]):
            continue
        field = f'{where}["{key}"]'
        if key in _NOT_OFFERED:
            wrong.append(
                InvalidArgument(
                    field, expected=f"no request for {_NOT_OFFERED[key]}", got="one", fix="leave it out"
                )
            )
        else:
            listed = ", ".join(sorted(known))
            wrong.append(
                InvalidArgument(
                    field,
                    expected=f"a known parameter ({listed})",
                    got="an unknown one",
                    fix="leave it out",
                )
            )
        if len(wrong) >= MAX_VIOLATIONS:
            break
    return wrong


def _check_whole(field: str, parameters: Parameters, key: str) -> list[InvalidArgument]:
    parameter = parameters.get(key)
    if parameter is None or not _is_set(parameter):
        return []
    choice = parameter.WhichOneof("parameter_choice")
    if choice in _WHOLE and getattr(parameter, choice) >= 0:
        return []
    got = str(parameter.int64_param) if choice == "int64_param" else f"a {choice}"
    return [InvalidArgument(field, expected="a whole number >= 0 as int64_param", got=got)]


def _check_bool(field: str, parameters: Parameters, key: str) -> list[InvalidArgument]:
    parameter = parameters.get(key)
    choice = None if parameter is None else parameter.WhichOneof("parameter_choice")
    if choice in (None, "bool_param"):
        return []
    return [InvalidArgument(field, expected="a truth value as bool_param", got=f"a {choice}")]


def _is_set(parameter: pb.InferParameter) -> bool:
    """Whether a parameter says anything."""
    choice = parameter.WhichOneof("parameter_choice")
    return choice is not None and bool(getattr(parameter, choice))
