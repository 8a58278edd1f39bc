# satellite for the CPU:   docker build -t satellite .
# for an NVIDIA GPU:       docker build -t satellite --build-arg GPU=cuda . ; docker run --gpus all ...
#
#   docker run -d --name satellite --restart unless-stopped --network host -v satellite:/var/lib/satellite \
#       -v /etc/satellite/config.yaml:/etc/satellite/config.yaml:ro satellite
#
# The host's network, so that Home Assistant discovers it and rooms are reached. Models are fetched at the first start.
FROM python:3.13-slim-bookworm

ARG GPU=cpu
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY satellite satellite
# Exactly one of onnxruntime and onnxruntime-gpu: both own the same files, so both go before the one comes back.
RUN if [ "$GPU" = cuda ]; then extras='[gpu]'; else extras=''; fi \
    && pip install --no-cache-dir -c constraints.txt ".$extras" \
    && if [ "$GPU" = cuda ]; then \
        pip uninstall -y onnxruntime onnxruntime-gpu \
        && pip install --no-cache-dir --no-deps -c constraints.txt onnxruntime-gpu; \
    fi \
    && useradd --system --uid 10600 --create-home --home-dir /var/lib/satellite satellite

USER 10600
WORKDIR /var/lib/satellite
ENV HOME=/var/lib/satellite SATELLITE_MODELS=/var/lib/satellite/models
VOLUME /var/lib/satellite
EXPOSE 10200 10300 10400 10500 10600
HEALTHCHECK --interval=1m --timeout=10s --start-period=10m CMD ["satellite", "status"]
CMD ["sh", "-c", "satellite models pull configured && exec satellite run"]
