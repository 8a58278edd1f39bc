# satellite for the CPU:   docker build -t satellite --build-arg VERSION=1.0.0 .
# for an NVIDIA GPU:       docker build -t satellite --build-arg GPU=cuda . ; docker run --gpus all ...
#
#   docker run -d --name satellite --restart unless-stopped --network host -v satellite:/var/lib/satellite \
#       -v /etc/satellite/config.yaml:/etc/satellite/config.yaml:ro satellite
#
# The host's network, so that Home Assistant discovers it and rooms are reached. Models are fetched at the first start.
FROM python:3.13-slim-bookworm AS build

ARG GPU=cpu
ARG VERSION
WORKDIR /source
COPY requirements requirements
# One of onnxruntime and onnxruntime-gpu, which own the same files.
RUN python -m venv /build && python -m venv /opt/satellite \
    && /build/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt \
    && if [ "$GPU" = cuda ]; then onnx=gpu; else onnx=cpu; fi \
    && /opt/satellite/bin/pip install --no-cache-dir --no-deps --require-hashes \
        -r requirements/base.txt -r requirements/local-chat.txt -r "requirements/$onnx.txt"
COPY . .
RUN export SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" \
    && /build/bin/pip wheel --no-deps --no-build-isolation -w dist . \
    && /opt/satellite/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim-bookworm

COPY --from=build /opt/satellite /opt/satellite
RUN useradd --system --uid 10600 --create-home --home-dir /var/lib/satellite satellite

USER 10600
WORKDIR /var/lib/satellite
ENV PATH=/opt/satellite/bin:$PATH HOME=/var/lib/satellite SATELLITE_MODELS=/var/lib/satellite/models
VOLUME /var/lib/satellite
EXPOSE 10200 10300 10400 10500 10600
HEALTHCHECK --interval=1m --timeout=10s --start-period=10m CMD ["satellite", "status"]
CMD ["sh", "-c", "satellite models pull configured && exec satellite run"]
