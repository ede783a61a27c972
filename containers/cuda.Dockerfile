# `ser serve` in a container, on an NVIDIA GPU. How to build and run it: docs/how-to/containers.md.
# From the project's folder: docker build --file containers/cuda.Dockerfile --tag ser:cuda .
# Debian serves only the newest version of a package in a release, so that a pin would break the build.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
# PyPI's builds of torch bring the libraries of CUDA. The driver comes from the host, through NVIDIA's container toolkit.
ARG TORCH_INDEX=https://pypi.org/simple
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/ser
WORKDIR /src
# The libraries and the code are layers of their own: a change of the code leaves the large one as it is.
COPY constraints.txt pyproject.toml containers/requirements.py ./
RUN python3 requirements.py serve > requirements.txt \
    && /opt/ser/bin/pip install --constraint constraints.txt --extra-index-url "${TORCH_INDEX}" --requirement requirements.txt \
    && rm -rf /opt/ser/lib/python3*/site-packages/torch/include
COPY LICENSE README.md cli.py ./
COPY embedcache embedcache
COPY classifiers classifiers
RUN /opt/ser/bin/pip install --no-deps --target /opt/code .

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ser \
    && install --directory --owner=ser --group=ser /checkpoints
COPY --from=build /opt/ser /opt/ser
COPY --from=build /opt/code /opt/code
# The root file system may be read-only: what libraries write goes to /tmp, checkpoints of Hugging Face to /checkpoints.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PATH=/opt/code/bin:/opt/ser/bin:${PATH} PYTHONPATH=/opt/code PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba HF_HOME=/checkpoints
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["ser"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8000"]
