// The player: waveform, spectrogram and timeline share one time axis. A click or a drag on any of them jumps there.
import { $, clock, element } from "./dom.js";
import { drawSpectrogram, drawWaveform } from "./pictures.js";
import { row } from "./timeline.js";

const RATE = 16_000; // sample rate of the pictures, in Hz
const UNPLAYABLE = "This browser cannot play this format. The answer does not depend on that.";

const audio = new Audio();
const play = element("button", { id: "play", class: "small" }, "Play");
const position = element("input", { type: "range", id: "position", min: 0, step: 0.01, value: 0, "aria-label": "Position in the recording" });
const time = element("span", { class: "value", id: "time" });
const wave = element("canvas", { class: "wave", role: "img", "aria-label": "Waveform" });
const spectrum = element("canvas", { class: "spectrum", role: "img", "aria-label": `Spectrogram from 0 to ${RATE / 2000} kHz` });
const trouble = element("p", { class: "soft wide", hidden: "" }, UNPLAYABLE);
let [samples, seconds, listeners] = [new Float32Array(1), 0, []];

// Puts the player into the page. Called once.
export function buildPlayer() {
  $("player").append(
    element("span", { class: "name" }, play),
    element("div", { class: "track" }, wave),
    time,
    ...row(`0–${RATE / 2000} kHz`, spectrum),
    element("span"),
    element("div", { class: "slider" }, position),
    element("span"),
    trouble,
  );
  play.addEventListener("click", () => (audio.paused ? audio.play().catch(() => (trouble.hidden = false)) : audio.pause()));
  for (const kind of ["play", "pause", "ended"]) audio.addEventListener(kind, showPlaying);
  audio.addEventListener("timeupdate", showPosition);
  audio.addEventListener("error", () => (trouble.hidden = !audio.getAttribute("src")));
  position.addEventListener("input", () => seek(Number(position.value)));
  $("sound").addEventListener("pointerdown", startDrag);
  new ResizeObserver(draw).observe(wave);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

// Takes a recording. Returns its duration in seconds, as far as the browser knows it; else null.
export async function load(blob) {
  unload();
  audio.src = URL.createObjectURL(blob);
  return new Promise((resolve) => {
    audio.onloadedmetadata = () => resolve(Number.isFinite(audio.duration) ? audio.duration : null);
    audio.addEventListener("error", () => resolve(null), { once: true });
  });
}

// Shows a recording of `duration` seconds: decodes it for the pictures, and leaves them blank if that fails.
export async function show(blob, duration) {
  seconds = duration;
  position.max = duration;
  position.value = 0;
  showPosition();
  try {
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
    samples = mean(decoded);
  } catch {
    samples = new Float32Array(1);
    trouble.hidden = false;
  }
  draw();
}

export function unload() {
  audio.pause();
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.removeAttribute("src");
  [samples, listeners, trouble.hidden] = [new Float32Array(1), [], true];
}

// Calls each function with the position in seconds, whenever it changes.
export function whenMoved(functions) {
  listeners = functions;
  showPosition();
}

function seek(to) {
  audio.currentTime = Math.max(0, Math.min(to, seconds));
  showPosition();
}

function startDrag(event) {
  const track = event.target.closest(".track");
  if (!track || event.button) return;
  const move = ({ clientX }) => {
    const { left, width } = track.getBoundingClientRect();
    seek(((clientX - left) / width) * seconds);
  };
  const stop = () => document.removeEventListener("pointermove", move);
  move(event);
  document.addEventListener("pointermove", move);
  for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, stop, { once: true });
}

function showPlaying() {
  play.textContent = audio.paused ? "Play" : "Pause";
  const frame = () => {
    showPosition();
    if (!audio.paused) requestAnimationFrame(frame);
  };
  frame();
}

function showPosition() {
  const now = audio.currentTime;
  $("sound").style.setProperty("--at", seconds ? now / seconds : 0);
  position.value = now;
  position.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${seconds.toFixed(1)} seconds`);
  time.textContent = clock(now, 1);
  for (const listener of listeners) listener(now);
}

function draw() {
  if (!wave.clientWidth) return;
  drawWaveform(wave, samples);
  drawSpectrogram(spectrum, samples);
}

function mean(decoded) {
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, number) => decoded.getChannelData(number));
  return channels[0].map((_, index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length);
}
