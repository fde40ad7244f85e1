# syntax=docker/dockerfile:1
# The models of a state folder as they serve there: promoted versions, models of your own, and those that may be fetched but
# not passed on. What is in it is yours to answer for: keep it in a private registry. Built from the state folder:
#   docker build -f deploy/docker/own-models.Dockerfile -t REGISTRY/models:own-1 ~/.local/state/sensorium
# It is used in the place of `sensorium/models`; who signed the artifacts, the key of that folder, is trusted.

FROM debian:12-slim AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*
COPY models /image/models
COPY keys/artifacts/jwks.json /image/models/trusted.jwks.json
RUN install -D /bin/busybox /image/bin/cp && chmod -R a+rX /image

FROM scratch
LABEL org.opencontainers.image.title="Models of one's own" \
      org.opencontainers.image.description="Artifacts of a Sensorium state folder"
COPY --from=build /image /
USER 65532:65532
# As an init container it fills a folder.
ENTRYPOINT ["/bin/cp", "-R"]
CMD ["/models/.", "/var/lib/sensorium/models"]
