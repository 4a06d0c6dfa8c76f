# On CPUs:       docker build -t emotion-av .
# On NVIDIA GPUs: docker build -t emotion-av --build-arg CUDA=1 .    and run it with --gpus all
#
#   docker run --rm -v "$PWD/data:/work/data" emotion-av features
#   docker run --rm -v "$PWD/data:/work/data" emotion-av train
#   docker run --rm -v "$PWD/data:/work/data" --network host emotion-av app --port 7860
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# What OpenCV's windows are linked with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv

# Libraries come first: a change of the code does not fetch them again.
WORKDIR /source
COPY pyproject.toml requirements.lock ./
# TensorFlow's extra brings CUDA's libraries; the machine itself has only the driver.
ARG CUDA=
RUN uv pip install --system --no-cache --compile-bytecode --constraints requirements.lock \
    --requirements pyproject.toml --extra app --extra export ${CUDA:+"tensorflow[and-cuda]"}
COPY . .
RUN uv pip install --system --no-cache --no-deps .

# Results belong to whoever runs it: add --user "$(id -u):$(id -g)".
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["emotion-av"]
CMD ["--help"]
