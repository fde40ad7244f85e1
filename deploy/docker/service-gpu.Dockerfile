# syntax=docker/dockerfile:1
# Any of the services on NVIDIA GPUs; its argument says which. CUDA 13 and cuDNN 9 come as wheels, pinned as everything else:
# the node needs a driver of 580 or newer and the container toolkit. Build from the root of the checkout:
#   docker build -f deploy/docker/service-gpu.Dockerfile -t sensorium/service:0.1.0-gpu .
#   docker run --gpus all sensorium/service:0.1.0-gpu services.vision

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
RUN /opt/uv/bin/uv sync --frozen --no-cache --no-install-project --extra services --extra gpu
COPY shared shared
COPY services services
COPY deploy/docker/sbom.py deploy/
# Nothing of training is served, and weights come from an image or a volume of their own.
RUN rm -rf shared/training services/*/training services/*/models/*.py services/*/models/*.onnx services/*/models/*.npz services/*/models/*/ \
 && /opt/uv/bin/uv sync --frozen --no-cache --extra services --extra gpu \
 && /opt/uv/bin/uv export --frozen --quiet --extra services --extra gpu --format cyclonedx1.5 --output-file sbom.cdx.json > /dev/null \
 && .venv/bin/python -m compileall -q services shared clients/python/sensorium

FROM debian:12-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sensorium service (GPU)" \
      org.opencontainers.image.description="A replica of Sensorium's vision, language or speech service on NVIDIA GPUs, without weights" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf /usr/share/doc /usr/share/man \
 && useradd --uid 65532 --user-group --home-dir /var/lib/sensorium --create-home --shell /usr/sbin/nologin sensorium
COPY --from=build /opt/sensorium /opt/sensorium
WORKDIR /opt/sensorium
RUN /usr/bin/python3 deploy/sbom.py sensorium/service "${VERSION}-gpu"
# Every service listens on one port, so that one probe, one policy and one name do for all.
ENV PATH=/opt/sensorium/.venv/bin:/usr/bin:/bin \
    LD_LIBRARY_PATH=/opt/sensorium/.venv/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/sensorium/.venv/lib/python3.11/site-packages/nvidia/cudnn/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SENSORIUM_STATE_DIR=/var/lib/sensorium \
    SENSORIUM_VISION_INFERENCE__PROVIDERS='["cuda","cpu"]' \
    SENSORIUM_NLP_INFERENCE__PROVIDERS='["cuda","cpu"]' \
    SENSORIUM_SPEECH_INFERENCE__PROVIDERS='["cuda","cpu"]' \
    SENSORIUM_VISION_INFERENCE__SIGNATURE__TRUSTED='["/var/lib/sensorium/models/trusted.jwks.json"]' \
    SENSORIUM_NLP_INFERENCE__SIGNATURE__TRUSTED='["/var/lib/sensorium/models/trusted.jwks.json"]' \
    SENSORIUM_SPEECH_INFERENCE__SIGNATURE__TRUSTED='["/var/lib/sensorium/models/trusted.jwks.json"]' \
    SENSORIUM_VISION_RPC__ADDRESS=0.0.0.0:50051 \
    SENSORIUM_NLP_RPC__ADDRESS=0.0.0.0:50051 \
    SENSORIUM_SPEECH_RPC__ADDRESS=0.0.0.0:50051 \
    SENSORIUM_VISION_RPC__METRICS_ADDRESS=0.0.0.0:9464 \
    SENSORIUM_NLP_RPC__METRICS_ADDRESS=0.0.0.0:9464 \
    SENSORIUM_SPEECH_RPC__METRICS_ADDRESS=0.0.0.0:9464
# The root may be read-only: models are read from `models` in here, what the machine learns is written beside them.
VOLUME ["/var/lib/sensorium"]
USER 65532:65532
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s CMD ["python", "-m", "shared.rpc.probe", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m"]
CMD ["services.vision"]
