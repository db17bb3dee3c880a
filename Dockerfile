# Duewatch in a container: every role is this image with another command (web, worker, scheduler).
# Build: docker build -t duewatch .        With traces: --build-arg LOCK=requirements-traces.lock

FROM python:3.11-slim-bookworm AS build
# What is installed comes from the lock file only, each file checked by its hash.
ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
RUN python -m venv /opt/duewatch
COPY requirements*.lock ./
RUN /opt/duewatch/bin/pip install --no-compile --require-hashes -r "$LOCK"
COPY pyproject.toml README.md LICENSE ./
COPY schedules schedules
COPY workers workers
COPY templates templates
# What builds isn't what runs: the builder, pip itself and the libraries' own tests stay behind.
RUN /opt/duewatch/bin/pip install --no-compile --no-deps --no-build-isolation . \
    && /opt/duewatch/bin/pip uninstall --yes \
        hatchling editables pathspec pluggy trove-classifiers pip setuptools \
    && find /opt/duewatch/lib -type d -name tests -prune -exec rm -rf {} + \
    && /opt/duewatch/bin/python -m compileall -q -j 0 /opt/duewatch/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Duewatch" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 duewatch \
    && useradd --system --uid 10001 --gid duewatch --home-dir /data --no-log-init duewatch \
    && install -d -o duewatch -g duewatch -m 0750 /data
COPY --from=build /opt/duewatch /opt/duewatch
# Every role answers /healthz, /readyz and /metrics at 8025; only web answers anything else there.
# Nothing is written but /data and /tmp: with --read-only --tmpfs /tmp it runs, too.
ENV PATH=/opt/duewatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    DUEWATCH_WEB__HOST=0.0.0.0 \
    DUEWATCH_WEB__PORT=8025 \
    DUEWATCH_WEB__HEALTH_PORT=8025 \
    DUEWATCH_LOGS__FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8025/healthz', timeout=5)"]
ENTRYPOINT ["duewatch"]
CMD ["run"]
