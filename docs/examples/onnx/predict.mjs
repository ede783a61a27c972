// Predict WAV files with the files of `ser export MODEL --encoder`, in Node.js.
//
//     npm install onnxruntime-node
//     node predict.mjs MODEL/onnx CLIP.wav ...

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

// Print a prediction for each recording, as one line of JSON.
async function main(folder, ...paths) {
  const encoder = await InferenceSession.create(join(folder, "encoder.onnx"));
  const head = await InferenceSession.create(join(folder, "head.onnx"));
  // distance.onnx is missing if it is not known how the training clips sound.
  const file = join(folder, "distance.onnx");
  const distance = existsSync(file) ? await InferenceSession.create(file) : null;
  // onnxruntime-node does not show the metadata of a file; model.json has the same texts.
  const facts = JSON.parse(readFileSync(join(folder, "model.json"), "utf8")).onnx.metadata;
  for (const path of paths) {
    const { channels, rate } = readWav(readFileSync(path));
    console.log(JSON.stringify({ path, ...(await predict(encoder, head, distance, facts, channels, rate)) }));
  }
}

// Return the label of a recording, or null if nothing is audible, and the probability of each label.
// `channels` are arrays of floats in [-1, 1] at `rate` Hz.
async function predict(encoder, head, distance, facts, channels, rate) {
  const mono = facts.channel === "mean" ? mean(channels) : channels[Number(facts.channel)];
  const waveform = resample(mono, rate, Number(facts.sample_rate), facts);
  if (waveform.length < Number(facts.shortest_samples) || waveform.length > Number(facts.longest_samples))
    throw new Error(`${waveform.length} samples; wanted ${facts.shortest_samples} to ${facts.longest_samples}`);
  const input = new Tensor("float32", Float32Array.from(waveform), [1, waveform.length]);
  const { embedding } = await encoder.run({ waveform: input });
  const { probabilities, label } = await head.run({ embedding });
  const names = JSON.parse(facts.labels);
  const audible = isAudible(waveform, facts);
  let weight = audible ? 1 : 0; // of the head's probabilities; equal ones have the rest
  if (audible && distance) {
    const far = (await distance.run({ waveform: input })).distance.data[0];
    weight = Math.min(1, far ** -2); // less sure of a sound unlike the training clips
  }
  const mixed = (column) => weight * probabilities.data[column] + (1 - weight) / names.length;
  return {
    label: audible ? label.data[0] : null,
    probabilities: Object.fromEntries(names.map((name, column) => [name, mixed(column)])),
  };
}

function mean(channels) {
  return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
}

// Return a waveform x at another sample rate, low-passed with a sinc in a Kaiser window.
function resample(x, rate, target, facts) {
  if (rate === target) return x;
  const step = gcd(rate, target);
  const [up, down] = [target / step, rate / step]; // output sample m lies at m * down / up input samples
  const scale = Math.min(1, target / rate);
  const [cutoff, beta] = [scale * facts.resampler_cutoff, Number(facts.resampler_beta)];
  const half = facts.resampler_half_width / scale; // half the width of the window, in input samples
  const reach = Math.floor(half);
  const tap = (t) =>
    Math.abs(t) < half ? (cutoff * sinc(cutoff * t) * i0(beta * Math.sqrt(1 - (t / half) ** 2))) / i0(beta) : 0;
  const table = Array.from({ length: up }, (_, phase) =>
    Float64Array.from({ length: 2 * reach + 2 }, (_, k) => tap(phase / up + reach - k)),
  );
  return Float64Array.from({ length: Math.floor((x.length * up) / down + 0.5) }, (_, m) => {
    const first = Math.floor((m * down) / up) - reach;
    const weights = table[(m * down) % up];
    let sum = 0;
    for (let k = 0; k < weights.length; k += 1) sum += weights[k] * (x[first + k] ?? 0);
    return sum;
  });
}

// Return whether enough frames of a waveform are louder than the threshold; else there is nothing to judge.
function isAudible(x, facts) {
  const width = Math.round(facts.silence_frame_seconds * facts.sample_rate);
  const offset = x.reduce((sum, value) => sum + value, 0) / x.length;
  let loud = 0;
  for (let start = 0; start < x.length; start += width) {
    const energy = x.slice(start, start + width).reduce((sum, value) => sum + (value - offset) ** 2, 0);
    if (Math.sqrt(energy / width) > 10 ** (facts.silence_below_db / 20)) loud += 1;
  }
  return facts.silence_frame_seconds * loud >= Number(facts.silence_least_seconds);
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);
const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);

// The modified Bessel function of the first kind and of order 0, as its power series.
function i0(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-17 * sum; k += 1) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

// Return the channels of a WAV file, of integers of 8 to 32 bits or of floats, and its sample rate in Hz.
function readWav(bytes) {
  const { fmt, data } = chunks(bytes);
  if (!fmt || !data) throw new Error("not a WAV file with samples");
  const extensible = fmt.readUInt16LE(0) === 0xfffe;
  const isFloat = fmt.readUInt16LE(extensible ? 24 : 0) === 3;
  const [width, rate, bits] = [fmt.readUInt16LE(2), fmt.readUInt32LE(4), fmt.readUInt16LE(14)];
  const read = {
    f32: (at) => data.readFloatLE(at),
    f64: (at) => data.readDoubleLE(at),
    i8: (at) => (data.readUInt8(at) - 128) / 2 ** 7,
    i16: (at) => data.readInt16LE(at) / 2 ** 15,
    i24: (at) => data.readIntLE(at, 3) / 2 ** 23,
    i32: (at) => data.readInt32LE(at) / 2 ** 31,
  }[(isFloat ? "f" : "i") + bits];
  if (!read) throw new Error(`${bits} bits; wanted 8, 16, 24 or 32, or floats`);
  const frame = (width * bits) / 8;
  const length = Math.floor(data.length / frame);
  const channel = (c) => Float64Array.from({ length }, (_, i) => read(i * frame + (c * bits) / 8));
  return { channels: Array.from({ length: width }, (_, c) => channel(c)), rate };
}

// Return the chunks of a WAV file by name, as buffers.
function chunks(bytes) {
  const found = {};
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = bytes.readUInt32LE(at + 4);
    found[bytes.toString("latin1", at, at + 4).trim()] = bytes.subarray(at + 8, at + 8 + size);
    at += 8 + size + (size % 2);
  }
  return found;
}

await main(...process.argv.slice(2));
