# The pages for people. Build from the repository's root.
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

FROM python:3.11.15-slim-trixie@sha256:db3ff2e1800a8581e2c48a27c3995339d47bdf046da21c7627accd3d51053a93
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="quantry/dashboard" \
    org.opencontainers.image.description="Quantry's dashboard: one more client of the public API" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
RUN groupadd --gid 10001 quantry && useradd --uid 10001 --gid quantry --no-create-home --home-dir /tmp --shell /usr/sbin/nologin quantry \
    && install --directory --owner 10001 --group 10001 --mode 0700 \
        /var/lib/quantry
WORKDIR /opt/quantry
ENV PATH=/opt/quantry/.venvs/light/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/quantry/.venvs/light ./.venvs/light
COPY --from=build /opt/quantry/docker/healthcheck.py ./docker/healthcheck.py
COPY --from=build /opt/quantry/libs/core ./libs/core
COPY --from=build /opt/quantry/libs/telemetry ./libs/telemetry
COPY --from=build /opt/quantry/clients ./clients
COPY --from=build /opt/quantry/services/dashboard ./services/dashboard
ENV QUANTRY_DASHBOARD_HOST=0.0.0.0 QUANTRY_DASHBOARD_PORT=8080 NICEGUI_STORAGE_PATH=/tmp/.nicegui
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["python", "-I", "-S", "/opt/quantry/docker/healthcheck.py", "http://127.0.0.1:8080/healthz"]
CMD ["python", "-m", "quantry_dashboard"]
