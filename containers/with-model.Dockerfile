# The image of `ser serve` with a model in it: docker build --file containers/with-model.Dockerfile --tag ser-mine MODEL
ARG IMAGE=ser
FROM ${IMAGE}
# The files of the model alone: enrolled speakers (speakers/) stay on the machine where they were enrolled.
COPY *.json *.skops* *.safetensors* /model/
