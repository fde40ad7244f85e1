# syntax=docker/dockerfile:1
# The gateway: Envoy and its control plane. Build from the root of the checkout:
#   docker build -f deploy/docker/gateway.Dockerfile -t sensorium/gateway:0.1.0 .

FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}"
WORKDIR /opt/sensorium
ENV UV_PYTHON=/usr/bin/python3 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PREVIEW_FEATURES=package-conflicts,sbom-export
COPY LICENSE README.md pyproject.toml uv.lock ./
COPY clients/python clients/python
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-install-project --extra gateway
COPY shared shared
COPY gateway gateway
COPY deploy/mesh.yaml deploy/docker/sbom.py deploy/
RUN rm -rf shared/inference shared/training \
 && /opt/uv/bin/uv sync --frozen --no-cache --extra gateway \
 && /opt/uv/bin/uv export --frozen --quiet --extra gateway --format cyclonedx1.5 --output-file sbom.cdx.json > /dev/null \
 && .venv/bin/python -m compileall -q gateway shared clients/python/sensorium

FROM debian:12-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sensorium gateway" \
      org.opencontainers.image.description="Authentication, routing and load balancing in front of Sensorium's services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf /usr/share/doc /usr/share/man \
 && useradd --uid 65532 --user-group --home-dir /var/lib/sensorium --create-home --shell /usr/sbin/nologin sensorium
COPY --from=build /opt/sensorium /opt/sensorium
WORKDIR /opt/sensorium
RUN /usr/bin/python3 deploy/sbom.py sensorium/gateway "${VERSION}"
ENV PATH=/opt/sensorium/.venv/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SENSORIUM_STATE_DIR=/var/lib/sensorium \
    SENSORIUM_GATEWAY_LISTEN=0.0.0.0:8080
# The root may be read-only: only the state folder's `run` and /tmp are written to.
VOLUME ["/var/lib/sensorium"]
USER 65532:65532
EXPOSE 8080 9901 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s CMD ["python", "-m", "shared.rpc.probe", "127.0.0.1:8080"]
ENTRYPOINT ["python", "-m", "gateway"]
