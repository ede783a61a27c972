"""Predict recordings with the files of `ser export MODEL --encoder`: without ser, and without torch.

pip install onnxruntime soundfile
python predict.py MODEL/onnx CLIP.wav ...
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


def main(folder: str, *paths: str) -> None:
    """Print a prediction for each recording, as one line of JSON."""
    files = [Path(folder) / name for name in ("encoder.onnx", "head.onnx", "distance.onnx")]
    # distance.onnx is missing if it is not known how the training clips sound.
    encoder, head, distance = (onnxruntime.InferenceSession(file) if file.exists() else None for file in files)
    facts = head.get_modelmeta().custom_metadata_map
    for path in paths:
        sound, rate = soundfile.read(path, always_2d=True)
        print(json.dumps({"path": path, **predict(encoder, head, distance, facts, sound, rate)}))


def predict(encoder, head, distance, facts, sound, rate):  # sound: floats (samples, channels) in [-1, 1] at `rate` Hz
    """Return the label of a recording, or None if nothing is audible, and the probability of each label."""
    mono = sound.mean(axis=1) if facts["channel"] == "mean" else sound[:, int(facts["channel"])]
    waveform = resample(mono, rate, int(facts["sample_rate"]), facts)
    if not int(facts["shortest_samples"]) <= len(waveform) <= int(facts["longest_samples"]):
        raise ValueError(f"{len(waveform)} samples; wanted {facts['shortest_samples']} to {facts['longest_samples']}")
    names = json.loads(facts["labels"])
    inputs = {"waveform": waveform[None].astype(np.float32)}
    (embedding,) = encoder.run(None, inputs)
    probabilities, labels = head.run(None, {"embedding": embedding})
    if not is_audible(waveform, facts):
        return {"label": None, "probabilities": dict.fromkeys(names, 1 / len(names))}
    weight = min(1.0, float(distance.run(None, inputs)[0][0]) ** -2) if distance else 1.0
    mixed = weight * probabilities[0] + (1 - weight) / len(names)  # less sure of a sound unlike the training clips
    return {"label": labels[0], "probabilities": dict(zip(names, mixed.tolist(), strict=True))}


def resample(x, rate, target, facts):
    """Return a waveform x (samples,) at another sample rate, low-passed with a sinc in a Kaiser window."""
    if rate == target:
        return x
    step = math.gcd(rate, target)
    up, down = target // step, rate // step  # output sample m lies at m * down / up input samples
    scale = min(1, target / rate)
    cutoff, beta = scale * float(facts["resampler_cutoff"]), float(facts["resampler_beta"])
    half = float(facts["resampler_half_width"]) / scale  # half the width of the window, in input samples
    reach = math.floor(half)
    padded = np.pad(x, reach + 1)
    offsets = np.arange(-reach, reach + 2)

    def taps(phase):
        t = phase / up - offsets
        window = np.i0(beta * np.sqrt(np.clip(1 - (t / half) ** 2, 0, None))) / np.i0(beta)
        return np.where(abs(t) < half, cutoff * np.sinc(cutoff * t) * window, 0)

    table = [taps(phase) for phase in range(up)]
    length = math.floor(len(x) * up / down + 0.5)
    starts = np.arange(length) * down // up + 1
    return np.array([table[m * down % up] @ padded[start : start + len(offsets)] for m, start in enumerate(starts)])


def is_audible(x, facts):
    """Return whether enough frames of a waveform are louder than the threshold; else there is nothing to judge."""
    seconds = float(facts["silence_frame_seconds"])
    width = round(seconds * int(facts["sample_rate"]))
    frames = np.pad(x - x.mean(), (0, -len(x) % width)).reshape(-1, width)
    loud = np.sqrt((frames**2).mean(axis=1)) > 10 ** (float(facts["silence_below_db"]) / 20)
    return seconds * loud.sum() >= float(facts["silence_least_seconds"])


if __name__ == "__main__":
    main(*sys.argv[1:])
