# The rollout controller on vLLM's own image: engines run in this container, on its GPUs. Build from the repository's root.
FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93 AS uv
COPY requirements/uv.lock /tmp/uv.lock
RUN --mount=type=cache,target=/root/.cache python -m pip install --quiet --require-hashes -r /tmp/uv.lock

FROM vllm/vllm-openai:v0.32.0
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="quantry/deploy-cuda" \
    org.opencontainers.image.description="Quantry's rollout controller with vLLM for CUDA" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
USER root
RUN groupadd --gid 10001 quantry && useradd --uid 10001 --gid quantry --no-create-home --home-dir /tmp --shell /usr/sbin/nologin quantry \
    && install --directory --owner 10001 --group 10001 --mode 0700 \
        /var/lib/quantry /var/lib/quantry/deploy
WORKDIR /opt/quantry
COPY --from=uv /usr/local/bin/uv /usr/local/bin/uv
COPY requirements ./requirements
COPY docker/install.py docker/healthcheck.py ./docker/
COPY libs ./libs
COPY clients ./clients
COPY services ./services
RUN --mount=type=cache,target=/root/.cache python3 docker/install.py --uv /usr/local/bin/uv --home .venvs/light \
    && python3 -m compileall -q libs services \
    # Which Python holds vLLM is the image's business: it is asked here, while its PATH is as its makers left it.
    && printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v python3)" > engine-python && chmod 0755 engine-python
ENV PATH=/opt/quantry/.venvs/light/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV QUANTRY_DEPLOY_HOST=0.0.0.0 \
    QUANTRY_DEPLOY_PORT=8003 \
    QUANTRY_DEPLOY_DIR=/var/lib/quantry/deploy \
    QUANTRY_ENGINE_DEVICE=cuda \
    QUANTRY_ENGINE_SCRIPT=/opt/quantry/services/engine/serve.py \
    QUANTRY_ENGINE_PYTHON=/opt/quantry/engine-python
USER 10001:10001
EXPOSE 8003
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/opt/quantry/.venvs/light/bin/python", "-I", "-S", "/opt/quantry/docker/healthcheck.py", "http://127.0.0.1:8003/healthz"]
ENTRYPOINT []
CMD ["/opt/quantry/.venvs/light/bin/python", "-m", "quantry_deploy"]
