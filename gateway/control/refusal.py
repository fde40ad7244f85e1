"""Why a call can go nowhere. Every call without a route to a replica ends here, whatever its method is."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping

from gateway.config import Service
from gateway.contract import INFERENCE, Method
from gateway.control.view import View
from gateway.discovery.roster import get_rpc
from shared.errors import InvalidArgument, SensoriumError, Unavailable, Unimplemented
from shared.rpc.caller import MODEL_HEADER

# Routes follow the roster within a tenth of a second.
_ROUTES_LATE_S = 0.5
# The proto's names; those of a few hundred services would be no help.
_MAX_LISTED = 20


def explain(view: View, path: str, metadata: Mapping[str, str]) -> SensoriumError:
    """The error that a call of `path` with `metadata` ends with."""
    method = view.contract.method(path)
    name = urllib.parse.unquote(metadata.get(MODEL_HEADER, ""), errors="replace")
    if method is None:
        return _no_method(view, path)
    try:
        if method.service == INFERENCE:
            return _explain_inference(view, method, name)
        owner = view.owner(method.service)
        if owner is None:
            return Unimplemented(
                f"{method.service} is not served by this mesh; it serves {_list(_served(view))}"
            )
        return _explain_typed(view, owner, method, name)
    except SensoriumError as error:
        return error


def _no_method(view: View, path: str) -> SensoriumError:
    service, _, name = path.removeprefix("/").partition("/")
    methods = view.contract.services.get(service, ())
    if methods and (service in (INFERENCE, *_served(view))):
        return Unimplemented(
            f"{service} has no method {name!r}; it has {_list([method.name for method in methods])}"
        )
    return Unimplemented(
        f"no service is named {service!r}; this mesh serves {_list([*_served(view), INFERENCE])}"
    )


def _explain_inference(view: View, method: Method, name: str) -> SensoriumError:
    if not method.model_field:
        return Unimplemented(f"{method.service}/{method.name} is declared and not served here")
    if not name:
        return InvalidArgument(
            method.model_field, expected="the name of a model", got="none", fix="RepositoryIndex lists them"
        )
    service, bare = view.said.find(name)
    return _explain_known(view, service, bare, view.said.ready_names(service))


def _explain_typed(view: View, owner: Service, method: Method, name: str) -> SensoriumError:
    catalog = view.said
    if name:
        # Typed calls take models, not their graphs: those have names of their own in the inference protocol only.
        service, bare = catalog.find(name, owner.name)
        return _explain_known(view, service, bare, catalog.ready_models(service))
    default = [
        known.status.name
        for known in catalog.models()
        if known.service == owner.name and method.name in map(get_rpc, known.status.default_for)
    ]
    if default and not catalog.default_ready(owner.name, method.name):
        return catalog.explain(owner.name, default[0])
    if not catalog.in_rotation(owner.name):
        return Unavailable(
            f"service {owner.name}", reason=catalog.explain_service(owner.name), retry_after_s=_ROUTES_LATE_S
        )
    return _routes_late(f"{method.service}/{method.name}")


def _explain_known(view: View, service: str, bare: str, ready: set[str]) -> SensoriumError:
    if bare in ready:
        return _routes_late(f"model {service}/{bare}")
    if bare in view.said.ready_names(service):
        owner = bare.rpartition(".")[0]
        return InvalidArgument(
            "model", expected="a model", got=f"{bare!r}, which is one of its graphs", fix=f"name {owner!r}"
        )
    return view.said.explain(service, bare)


def _routes_late(what: str) -> Unavailable:
    return Unavailable(what, reason="it has just become ready", retry_after_s=_ROUTES_LATE_S)


def _served(view: View) -> list[str]:
    return [grpc for service in view.mesh.services for grpc in service.grpc]


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(sorted(names)[:_MAX_LISTED]) or "nothing") + more
