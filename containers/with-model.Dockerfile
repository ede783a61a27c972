# The image of `ser serve` with a model in it: docker build --file containers/with-model.Dockerfile --tag ser-mine MODEL
ARG IMAGE=ser
FROM ${IMAGE}
COPY . /model
