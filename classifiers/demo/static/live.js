// Listens while one speaks: sound goes out each half second, in order and without gaps; the answer comes as HTML.
// What waits while the desk is busy goes with the next piece. The pictures are drawn here, from the same sound.
const EVERY = 500; // milliseconds
const SHOWN = 10; // seconds of sound in the pictures
const FAULTS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's address bar, then press Listen again.",
  NotFoundError: "No microphone was found. Plug one in, or upload a recording instead.",
  NotReadableError: "The microphone is in use by another program. Close that, then press Listen again.",
};
const INSECURE = "Browsers give a page the microphone on this machine (localhost) or over HTTPS alone.";

const $ = (id) => document.getElementById(id);
let session = null;

// Gradio's uploader says this, and nothing else, whenever an upload is complete.
const warn = console.warn;
console.warn = (...said) => said[0] === "Method not implemented." || warn(...said);

document.addEventListener("click", (event) => {
  if (event.target.closest?.("#ser-listen")) session ? stop() : start();
});
window.addEventListener("pagehide", () => session && stop());

async function start() {
  const mine = (session = { id: null, waiting: [], context: null, stream: null, timer: null, columns: [] });
  state("Asking for the microphone …");
  try {
    if (!navigator.mediaDevices) throw new Error(INSECURE);
    const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    mine.stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    if (session !== mine) return mine.stream.getTracks().forEach((track) => track.stop());
    await record(mine);
  } catch (error) {
    release(mine);
    fault(FAULTS[error.name] ?? error.message);
    return;
  }
  mine.id = crypto.randomUUID();
  $("ser-live-out").innerHTML = "";
  state("Listening. The first answer takes three seconds of sound.");
  mine.timer = setTimeout(() => send(mine), EVERY);
}

async function record(mine) {
  const context = (mine.context = new AudioContext());
  await context.audioWorklet.addModule("/live/static/recorder.js");
  const source = context.createMediaStreamSource(mine.stream);
  const recorder = new AudioWorkletNode(context, "ser-recorder");
  const analyser = (mine.analyser = new AnalyserNode(context, { fftSize: 1024, smoothingTimeConstant: 0 }));
  recorder.port.onmessage = ({ data }) => mine.waiting.push(data);
  source.connect(analyser);
  source.connect(recorder);
  requestAnimationFrame(() => draw(mine));
}

async function send(mine) {
  if (session !== mine) return;
  const began = performance.now();
  const sound = pcm(mine.waiting.splice(0));
  if (sound.length) {
    const said = await post("hear", mine, sound);
    if (said.busy) mine.unsent = sound;
    if (said.fault) return finish(mine, said.fault);
    if (said.html && session === mine) {
      show(said.html);
      state("Listening.");
    }
  }
  if (session === mine) mine.timer = setTimeout(() => send(mine), Math.max(0, EVERY - (performance.now() - began)));
}

async function post(what, mine, sound) {
  const asked = new URLSearchParams({ id: mine.id, rate: mine.context.sampleRate, abstain_below: threshold() });
  chosen().forEach((name) => asked.append("model", name));
  const whole = mine.unsent ? joined(mine.unsent, sound) : sound;
  mine.unsent = null;
  try {
    const answer = await fetch(`/live/${what}?${asked}`, { method: "POST", body: whole });
    const text = await answer.text();
    if (answer.ok) return { html: text };
    const said = JSON.parse(text).error;
    if (answer.status !== 503) return { fault: said };
    state(said);
    return { busy: (mine.unsent = whole) };
  } catch (error) {
    return { fault: `The connection was lost (${error.message}). Is ser demo still running?` };
  }
}

async function stop() {
  const mine = session;
  clearTimeout(mine.timer);
  release(mine);
  state("");
  if (!mine.id) return;
  const said = await post("end", mine, pcm(mine.waiting.splice(0)));
  if (said.html && !session) show(said.html);
  if (said.fault && !session) fault(said.fault);
}

function finish(mine, said) {
  release(mine);
  fault(said);
}

function release(mine) {
  if (session === mine) session = null;
  mine.stream?.getTracks().forEach((track) => track.stop());
  mine.context?.close();
  const button = $("ser-listen");
  if (button) button.textContent = "Listen";
}

function pcm(pieces) {
  const samples = pieces.flatMap((piece) => Array.from(piece));
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))));
}

function joined(first, second) {
  const whole = new Int16Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

function chosen() {
  return [...document.querySelectorAll("#ser-models input:checked")].map((box) => box.closest("label").innerText.trim());
}

function threshold() {
  return document.querySelector("#ser-bound input[type=number]")?.value ?? 0;
}

function show(html) {
  $("ser-live-out").innerHTML = html;
}

function state(said) {
  $("ser-live-state").textContent = said;
  $("ser-listen").textContent = session ? "Stop" : "Listen";
}

function fault(said) {
  state("");
  const place = document.createElement("div");
  place.className = "ser-fault";
  place.setAttribute("role", "alert");
  place.textContent = said;
  $("ser-live-out").replaceChildren(place);
}

// A column of pixels for each frame of the screen: the loudest sample, and the levels up to 8 kHz.
function draw(mine) {
  if (session !== mine || !mine.analyser) return;
  const { analyser, context } = mine;
  const wave = new Float32Array(analyser.fftSize);
  const levels = new Uint8Array(analyser.frequencyBinCount);
  analyser.getFloatTimeDomainData(wave);
  analyser.getByteFrequencyData(levels);
  const top = Math.min(levels.length, Math.ceil((8000 / context.sampleRate) * analyser.fftSize));
  paint($("ser-live-wave"), wave);
  burn($("ser-live-spectrum"), levels.subarray(0, top));
  requestAnimationFrame(() => draw(mine));
}

function scrolled(canvas) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const step = Math.max(1, Math.round(canvas.width / (SHOWN * 60)));
  pen.globalCompositeOperation = "copy"; // what was there goes with the shift
  pen.drawImage(canvas, -step, 0);
  pen.globalCompositeOperation = "source-over";
  return [pen, canvas.width - step, step];
}

function paint(canvas, wave) {
  const [pen, x, step] = scrolled(canvas);
  const loudest = wave.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const height = Math.max(1, loudest * canvas.height);
  pen.fillStyle = getComputedStyle(canvas).color;
  pen.fillRect(x, (canvas.height - height) / 2, step, height);
}

function burn(canvas, levels) {
  const [pen, x, step] = scrolled(canvas);
  const tall = canvas.height / levels.length;
  levels.forEach((level, bin) => {
    pen.fillStyle = `hsl(${270 + level / 3} 80% ${(level / 255) * 75}%)`;
    pen.fillRect(x, canvas.height - (bin + 1) * tall, step, tall + 1);
  });
}
