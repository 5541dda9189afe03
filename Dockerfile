# Serve the five bundles with MONAI Label: docker build -t bundles .
# docker run -p 127.0.0.1:8000:8000 -v /your/studies:/studies bundles   (with --gpus all on a GPU server)
# For a smaller image without CUDA: --build-arg TORCH_ARGS="--index-url ..." with the address of torch's CPU builds.
FROM python:3.11-slim
ARG TORCH_ARGS=""
ENV PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY requirements.txt requirements-label.txt Makefile setup.cfg pyproject.toml README.md LICENSE ./
RUN pip install torch==2.13.0 $TORCH_ARGS && \
    pip install -r requirements.txt -r requirements-label.txt && \
    pip install --no-deps monailabel==0.8.5 torchvision==0.28.0 pydicom-seg==0.4.1
COPY common common
COPY bundles bundles
COPY label_app label_app
RUN useradd --create-home server && mkdir /studies && chown -R server /app /studies
USER server
EXPOSE 8000
ENTRYPOINT ["python", "-m", "label_app.serve", "--host", "0.0.0.0", "--port", "8000", "--studies", "/studies"]
