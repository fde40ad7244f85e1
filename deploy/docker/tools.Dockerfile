# syntax=docker/dockerfile:1
# Two images. `tools`: the `sensorium` command, for keys, tokens and weights. `models`: the weights and nothing else, one
# image for each digest of the catalogues, which is its tag. Build from the root of the checkout:
#   docker build -f deploy/docker/tools.Dockerfile --target tools -t sensorium/tools:0.1.0 .
#   docker build -f deploy/docker/tools.Dockerfile --target models -t sensorium/models:CATALOG .
# The key that signed the weights is thrown away with the stage that made them; its public half, `trusted.jwks.json`, is beside
# them. A cluster mounts `models` as an image volume, or runs it as an init container: pods need no package registry.

FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates npm python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}"
WORKDIR /opt/sensorium
ENV UV_PYTHON=/usr/bin/python3 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PREVIEW_FEATURES=package-conflicts,sbom-export
COPY LICENSE README.md pyproject.toml uv.lock ./
COPY clients/python clients/python
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-install-project --extra services --extra cpu --extra cli --extra gateway
COPY shared shared
COPY services services
COPY gateway gateway
COPY cli cli
COPY deploy/mesh.yaml deploy/docker/sbom.py deploy/
RUN /opt/uv/bin/uv sync --frozen --no-cache --extra services --extra cpu --extra cli --extra gateway \
 && /opt/uv/bin/uv export --frozen --quiet --extra services --extra cpu --extra cli --extra gateway --format cyclonedx1.5 --output-file sbom.cdx.json > /dev/null

FROM build AS weights
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*
# Which models go in: all, or those named, e.g. --build-arg MODELS="nlp speech/moonshine-tiny-en".
ARG MODELS=""
# Which do not: models that may be fetched but not passed on. The build refuses them by name; no argument lets them in.
ARG WITHOUT="centerface,reuters,topics"
# What `sensorium models digest` says of the rest. The build refuses another one, and says which it is.
ARG CATALOG=7b702642e477
# hadolint ignore=SC2086
RUN .venv/bin/sensorium models bake /image --state-dir /state --expect "${CATALOG}" --without "${WITHOUT}" ${MODELS} \
 && install -D /bin/busybox /image/bin/cp \
 && chmod -R a+rX /image

# Nothing but artifacts, their bill of materials, and `cp`.
FROM scratch AS models
ARG CATALOG=7b702642e477
LABEL org.opencontainers.image.title="Sensorium models" \
      org.opencontainers.image.description="Artifacts of Sensorium's models with their cards and licences" \
      org.opencontainers.image.version="${CATALOG}" \
      dev.sensorium.catalog="${CATALOG}"
COPY --from=weights /image /
USER 65532:65532
# As an init container it fills a folder.
ENTRYPOINT ["/bin/cp", "-R"]
CMD ["/models/.", "/var/lib/sensorium/models"]

FROM debian:12-slim AS tools
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sensorium tools" \
      org.opencontainers.image.description="The sensorium command: keys, tokens, weights, calls" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf /usr/share/doc /usr/share/man \
 && useradd --uid 65532 --user-group --home-dir /var/lib/sensorium --create-home --shell /usr/sbin/nologin sensorium \
 && install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/sensorium/keys \
 && install --directory --owner=65532 --group=65532 /var/lib/sensorium/public
COPY --from=build /opt/sensorium /opt/sensorium
WORKDIR /opt/sensorium
RUN /usr/bin/python3 deploy/sbom.py sensorium/tools "${VERSION}"
ENV PATH=/opt/sensorium/.venv/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SENSORIUM_STATE_DIR=/var/lib/sensorium
VOLUME ["/var/lib/sensorium/keys", "/var/lib/sensorium/public"]
USER 65532:65532
ENTRYPOINT ["sensorium"]
CMD ["--help"]
