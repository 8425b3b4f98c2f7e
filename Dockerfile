# The appliance. JetPack 6 by default; docker-bake.hcl names the other variants.
#
#   docker build -t delen .
#   docker build -t delen:cpu --build-arg BASE_IMAGE=debian:bookworm-slim --build-arg EXTRAS= .
#
# TensorRT and CUDA are the base image's. Behind a proxy, certificates and pip's configuration come as
# secrets, of which nothing stays in the image: --secret id=ca,src=... --secret id=pip,src=...
ARG BASE_IMAGE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

FROM ${BASE_IMAGE} AS build
ARG EXTRAS=jetson
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Versions are those of the base image's own distribution, whichever that is.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    ca-certificates g++ python3 python3-dev python3-venv \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 # System site packages: TensorRT's Python bindings come with the base image.
 && python3 -m venv --system-site-packages /opt/delen
COPY pyproject.toml constraints.txt README.md LICENSE /src/
COPY appliance /src/appliance
# pip goes last: what runs the appliance installs nothing.
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && export PATH="/usr/local/cuda/bin:${PATH}" PYTHONDONTWRITEBYTECODE=1 \
 && python=/opt/delen/bin/python \
 && "${python}" -m pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
    -c /src/constraints.txt "/src${EXTRAS:+[${EXTRAS}]}" \
 && "${python}" -m pip uninstall --quiet --yes pip setuptools \
 && "${python}" -m compileall -q /opt/delen

FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin delen \
 && install -d -o delen -g delen /var/lib/delen /run/delen
COPY --from=build /opt/delen /opt/delen
# Python writes no bytecode, and the programs find what is mounted: the root file system is read-only.
ENV PATH=/opt/delen/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    DELEN_ENGINES=/srv/delen/engines \
    DELEN_CONDITIONS=/srv/delen/conditions \
    DELEN_DATABASE=/var/lib/delen/delen.db \
    DELEN_PLANS=/var/lib/delen/plans \
    DELEN_HEALTH_FILE=/run/delen/health
USER 10001:10001
WORKDIR /srv/delen
LABEL org.opencontainers.image.title="Dělen" \
      org.opencontainers.image.description="An edge appliance that serves many tenants from one accelerator with multi-exit networks, over MQTT" \
      org.opencontainers.image.licenses="MIT"
# Long enough for TensorRT plans to be built at the first start; the first success ends it.
# `delen health`, without the time to load the other commands.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=3 \
    CMD ["python3", "-m", "appliance.cli.health"]
# It finishes what is in flight, says `stopped` and exits 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["delen"]
CMD ["serve"]
