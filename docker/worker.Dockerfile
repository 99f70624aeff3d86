# The worker with the ml environment of its jobs. TORCH_BACKEND=cpu, or the CUDA that the hosts' driver has: cu130. Build from the
# repository's root.
FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93 AS build
WORKDIR /opt/quantry
COPY requirements ./requirements
RUN --mount=type=cache,target=/root/.cache python -m pip install --quiet --require-hashes -r requirements/uv.lock
COPY docker/install.py docker/healthcheck.py ./docker/
COPY libs ./libs
COPY clients ./clients
COPY services ./services
COPY migrations ./migrations
RUN --mount=type=cache,target=/root/.cache python docker/install.py --uv /usr/local/bin/uv --home .venvs/light \
    && python -m compileall -q libs clients services migrations
ARG TORCH_BACKEND=cpu
RUN --mount=type=cache,target=/root/.cache QUANTRY_TORCH_BACKEND=$TORCH_BACKEND python requirements/environments.py build ml

FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="quantry/worker" \
    org.opencontainers.image.description="Quantry's worker: a Celery app whose slots run recipes in child processes" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
# On GPUs kernels are compiled when they are first used.
ARG TORCH_BACKEND=cpu
RUN if [ "$TORCH_BACKEND" != cpu ]; then \
        apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
RUN groupadd --gid 10001 quantry && useradd --uid 10001 --gid quantry --no-create-home --home-dir /tmp --shell /usr/sbin/nologin quantry \
    && install --directory --owner 10001 --group 10001 --mode 0700 \
        /var/lib/quantry /var/lib/quantry/worker
WORKDIR /opt/quantry
ENV PATH=/opt/quantry/.venvs/light/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/quantry/.venvs/light ./.venvs/light
COPY --from=build /opt/quantry/.venvs/ml ./.venvs/ml
COPY --from=build /opt/quantry/libs/core ./libs/core
COPY --from=build /opt/quantry/libs/telemetry ./libs/telemetry
COPY --from=build /opt/quantry/libs/blobs ./libs/blobs
COPY --from=build /opt/quantry/services/worker ./services/worker
ENV QUANTRY_ML_PYTHON=/opt/quantry/.venvs/ml/bin/python \
    QUANTRY_WORK_DIR=/var/lib/quantry/worker \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 CMD ["python", "-m", "quantry_worker.health"]
CMD ["python", "-m", "quantry_worker"]
