"""`python -m shared.rpc.probe ADDRESS [NAME]`: asks a server for its health; exit 0 if it serves. For images' health checks.

NAME is what is asked about: nothing for the server as a whole, a gRPC service, or a model (`nlp/minilm`).
"""

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def probe(address: str, name: str, timeout_s: float) -> str:
    """Empty if it serves, else why not."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=name), timeout=timeout_s
            )
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main() -> None:
    """Reads the arguments; ends in SystemExit."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.rpc.probe", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("address", help="host:port or unix:/path")
    parser.add_argument(
        "name", nargs="?", default="", help="a gRPC service or model; default: the server as a whole"
    )
    parser.add_argument("--timeout", type=float, default=2.0, metavar="S", help="seconds, default 2")
    arguments = parser.parse_args()
    why = probe(arguments.address, arguments.name, arguments.timeout)
    if why:
        sys.stderr.write(f"{arguments.address}: {arguments.name or 'the server'} does not serve: {why}\n")
    raise SystemExit(1 if why else 0)


if __name__ == "__main__":
    main()
