// The microphone: its samples, its level, and a picture of its last ten seconds.
import { $, clock } from "./dom.js";
import { INSECURE, microphoneFault } from "./faults.js";

const SHOWN = 10; // seconds in the picture
const FRAMES = 60; // columns of the picture per second
const LOWEST = -60; // dB relative to full scale at the left end of the level
const QUIET = -40; // a peak below this is too quiet to judge, in dB
const PATIENCE = 2; // seconds before "very quiet" is said
const METER_INTERVAL = 250; // milliseconds between two values that a screen reader may read

// Opens the microphone, and calls `onSamples` with each block of samples. Raises Fault.
export async function openMicrophone(onSamples) {
  if (!navigator.mediaDevices) throw INSECURE;
  const unprocessed = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream, context;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    if (context && context.state !== "closed") context.close();
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: unprocessed });
    context = new AudioContext();
    await context.audioWorklet.addModule("/page/static/recorder.js");
  } catch (error) {
    close();
    throw microphoneFault(error);
  }
  const source = context.createMediaStreamSource(stream);
  const recorder = new AudioWorkletNode(context, "ser-recorder");
  const analyser = new AnalyserNode(context, { fftSize: 2048 });
  recorder.port.onmessage = ({ data }) => onSamples(data);
  source.connect(analyser);
  source.connect(recorder);
  const stopMeter = showMeter(analyser);
  return { rate: context.sampleRate, close: () => (stopMeter(), close()) };
}

// Shows time, level and waveform in each animation frame. Returns the function that ends this.
function showMeter(analyser) {
  const samples = new Float32Array(analyser.fftSize);
  const start = performance.now();
  let [peaks, loudest, spoken, running] = [[], 0, 0, true];
  const frame = (now) => {
    if (!running) return;
    analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    const seconds = Math.max(0, now - start) / 1000;
    peaks = [...peaks, peak].slice(-SHOWN * FRAMES);
    loudest = Math.max(peak, 0.995 * loudest); // falls by half in about two seconds
    showLevel(peak, now - spoken > METER_INTERVAL);
    if (now - spoken > METER_INTERVAL) spoken = now;
    $("capture-time").textContent = clock(seconds, 1);
    $("capture-hint").textContent = levelHint(loudest, seconds);
    drawPeaks($("capture-wave"), peaks);
    requestAnimationFrame(frame);
  };
  $("capture").hidden = false;
  requestAnimationFrame(frame);
  return () => {
    running = false;
    $("capture").hidden = true;
  };
}

function levelHint(loudest, seconds) {
  if (loudest >= 0.99) return "Too loud: the sound is cut off. Move away a little.";
  if (seconds > PATIENCE && decibels(loudest) < QUIET) return "Very quiet. Is the right microphone on? Speak up.";
  return "";
}

function showLevel(peak, spoken) {
  const share = Math.max(0, 1 - decibels(peak) / LOWEST);
  $("level").firstElementChild.style.width = `${100 * share}%`;
  if (spoken) $("level").setAttribute("aria-valuenow", Math.round(100 * share));
}

function decibels(peak) {
  return 20 * Math.log10(Math.max(peak, 1e-6));
}

function drawPeaks(canvas, peaks) {
  const [width, height] = [(canvas.width = canvas.clientWidth), (canvas.height = canvas.clientHeight)];
  const context = canvas.getContext("2d");
  const step = width / (SHOWN * FRAMES);
  context.fillStyle = getComputedStyle(canvas).color;
  peaks.forEach((peak, index) => {
    const tall = Math.max(1, peak * height);
    context.fillRect(width - (peaks.length - index) * step, (height - tall) / 2, Math.max(1, step), tall);
  });
}
