# syntax=docker/dockerfile:1
# Training, one process or many (`torchrun`). Build from the root of the checkout:
#   docker build -f deploy/docker/training.Dockerfile -t sensorium/training:0.1.0 .
#   docker run -v data:/var/lib/sensorium/datasets -v runs:/runs sensorium/training:0.1.0 \
#     --module services.nlp.training.train_sentiment --out /runs/sentiment

FROM debian:12-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG UV_VERSION=0.13.9
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}"
WORKDIR /opt/sensorium
ENV UV_PYTHON=/usr/bin/python3 UV_LINK_MODE=copy UV_PREVIEW_FEATURES=package-conflicts,sbom-export
COPY LICENSE README.md pyproject.toml uv.lock ./
COPY clients/python clients/python
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-install-project --extra services --extra cpu --extra cli --group training
# Another build, for GPUs of another kind: --build-arg TORCH="torch==2.13.0 --index-url …"
ARG TORCH="torch==2.13.0"
# hadolint ignore=SC2086,DL3042
RUN .venv/bin/python -m pip install --no-cache-dir --quiet ${TORCH}
COPY shared shared
COPY services services
COPY deploy/docker/sbom.py deploy/
RUN /opt/uv/bin/uv sync --frozen --no-cache --inexact --extra services --extra cpu --extra cli --group training \
 && /opt/uv/bin/uv export --frozen --quiet --extra services --extra cpu --extra cli --group training --format cyclonedx1.5 --output-file sbom.cdx.json > /dev/null

FROM debian:12-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sensorium training" \
      org.opencontainers.image.description="Training scripts of Sensorium's models with PyTorch" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf /usr/share/doc /usr/share/man \
 && useradd --uid 65532 --user-group --home-dir /var/lib/sensorium --create-home --shell /usr/sbin/nologin sensorium \
 && install --directory --owner=65532 --group=65532 /runs
COPY --from=build /opt/sensorium /opt/sensorium
WORKDIR /opt/sensorium
RUN /usr/bin/python3 deploy/sbom.py sensorium/training "${VERSION}"
ENV PATH=/opt/sensorium/.venv/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SENSORIUM_STATE_DIR=/var/lib/sensorium
VOLUME ["/var/lib/sensorium", "/runs"]
USER 65532:65532
ENTRYPOINT ["torchrun", "--standalone"]
CMD ["--help"]
