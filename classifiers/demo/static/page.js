// The page's script: it records, sends sound to the page's own server, and shows the predictions.
//
// A recording is sent whole, as a WAV file. Live sound is sent every half second, in order and without gaps: a chunk
// that the server was too busy for is sent again with the next chunk. Live sound has the microphone's sample rate; the
// server resamples it (classifiers/inference/live_resampling.py). Predictions come as HTML, every text in it escaped.
const CHUNK_INTERVAL = 500; // milliseconds between two chunks of live sound
const SECONDS_SHOWN = 10; // in the live pictures
const SHORT_RECORDING = 5000; // milliseconds, of the button "Record 5 seconds"
const MAX_SECONDS = 300; // of a recording
const MAX_BYTES = 64 * 2 ** 20; // of a file
const MICROPHONE_FAULTS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's address bar, then try again.",
  NotFoundError: "No microphone was found. Plug one in, or choose a recording instead.",
  NotReadableError: "The microphone is in use by another program. Close that program, then try again.",
};
const INSECURE = "Browsers give a page the microphone only on this machine (localhost) or over HTTPS.";
const NO_MODEL = "Choose a model above.";

const $ = (id) => document.getElementById(id);
let live = null; // the live session, if one is running
let recording = null; // the recording, if one is running

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (button?.id === "ser-listen") live ? stopLive(live) : startLive();
  if (button?.id === "ser-record") recording ? stopRecording(recording) : startRecording();
  if (button?.id === "ser-five" && !recording) startRecording(SHORT_RECORDING);
  if (button?.dataset.example) predictExample(button.dataset.example);
});
document.addEventListener("change", (event) => {
  const file = event.target.id === "ser-file" && event.target.files[0];
  if (file) predictRecording(file, file.name);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const area = event.target.closest?.(".ser-drop");
    if (!area) return;
    event.preventDefault();
    area.classList.toggle("ser-over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file) predictRecording(file, file.name);
  });
}
window.addEventListener("pagehide", () => live && stopLive(live));

// Opens the microphone and calls `onSamples` with each block of samples.
// Returns its sample rate, an analyser for the live pictures, and a function that closes it.
async function openMicrophone(onSamples) {
  if (!navigator.mediaDevices) throw new Error(INSECURE);
  const unprocessed = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: unprocessed });
  const context = new AudioContext();
  const close = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule("/page/static/recorder.js");
  } catch (error) {
    close();
    throw error;
  }
  const source = context.createMediaStreamSource(stream);
  const recorder = new AudioWorkletNode(context, "ser-recorder");
  const analyser = new AnalyserNode(context, { fftSize: 1024, smoothingTimeConstant: 0 });
  recorder.port.onmessage = ({ data }) => onSamples(data);
  source.connect(analyser);
  source.connect(recorder);
  return { rate: context.sampleRate, analyser, close };
}

async function startRecording(milliseconds) {
  const current = (recording = { blocks: [], microphone: null });
  showState("clip", "Waiting for the microphone …");
  try {
    current.microphone = await openMicrophone((block) => current.blocks.push(block));
  } catch (error) {
    recording = null;
    return showFault("clip", MICROPHONE_FAULTS[error.name] ?? error.message);
  }
  if (recording !== current) return current.microphone.close(); // stopped while the microphone was opening
  $("ser-record").textContent = "Stop";
  showState("clip", "Recording …");
  setTimeout(() => recording === current && stopRecording(current), milliseconds ?? MAX_SECONDS * 1000 - 1000);
}

async function stopRecording(current) {
  recording = null;
  $("ser-record").textContent = "Record";
  if (!current.microphone) return showState("clip", "");
  current.microphone.close();
  await predictRecording(toWav(toPcm16(current.blocks), current.microphone.rate), "the recording");
}

async function predictExample(name) {
  const response = await fetch(`/page/example?${new URLSearchParams({ name })}`);
  await predictRecording(await response.blob(), name);
}

async function predictRecording(sound, name) {
  const [size, limit] = [sound.size.toLocaleString("en"), MAX_BYTES.toLocaleString("en")];
  if (sound.size > MAX_BYTES) return showFault("clip", `${name} has ${size} bytes; wanted at most ${limit}.`);
  if (!chosenModels().length) return showFault("clip", NO_MODEL);
  const player = $("ser-player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(sound);
  player.hidden = false;
  showState("clip", "Predicting …");
  const result = await post("/page/answer", { name }, sound);
  if (result.html === undefined) return showFault("clip", result.fault);
  showState("clip", "");
  showHtml("clip", result.html);
}

// A session keeps `waiting`, blocks from the microphone that were not sent yet, and `unsent`, blocks that were refused.
async function startLive() {
  if (!chosenModels().length) return showFault("live", NO_MODEL);
  const id = crypto.randomUUID?.() ?? String(Math.random());
  const session = (live = { id, waiting: [], unsent: [], sending: null });
  showState("live", "Waiting for the microphone …");
  try {
    session.microphone = await openMicrophone((block) => session.waiting.push(block));
  } catch (error) {
    live = null;
    return showFault("live", MICROPHONE_FAULTS[error.name] ?? error.message);
  }
  if (live !== session) return session.microphone.close(); // stopped while the microphone was opening
  showHtml("live", "");
  $("ser-listen").textContent = "Stop";
  showState("live", "Listening. The first prediction needs three seconds of sound.");
  requestAnimationFrame(() => drawLive(session));
  session.timer = setTimeout(() => sendNextChunk(session), CHUNK_INTERVAL);
}

async function sendNextChunk(session) {
  const start = performance.now();
  session.sending = sendChunk(session, "hear");
  const result = await session.sending;
  if (live !== session) return;
  if (result.fault) return abortLive(session, result.fault);
  if (!chosenModels().length) return abortLive(session, "Choose a model above, then press Listen again.");
  if (result.html) {
    showHtml("live", result.html);
    showState("live", "Listening.");
  }
  const pause = Math.max(0, CHUNK_INTERVAL - (performance.now() - start));
  session.timer = setTimeout(() => sendNextChunk(session), pause);
}

// Sends the sound since the last chunk, after the sound that the server was too busy for. `route` is "hear" or "end".
async function sendChunk(session, route) {
  const blocks = [...session.unsent, ...session.waiting.splice(0)];
  session.unsent = [];
  const result = await post(`/page/${route}`, { id: session.id, rate: session.microphone.rate }, toPcm16(blocks));
  if (result.status !== 503) return result;
  session.unsent = blocks;
  showState("live", result.fault);
  return {};
}

async function stopLive(session) {
  clearTimeout(session.timer);
  closeLive(session);
  showState("live", "");
  if (!session.microphone) return;
  await session.sending;
  const result = await sendChunk(session, "end");
  if (!live && result.html) showHtml("live", result.html);
  if (!live && result.fault) showFault("live", result.fault);
}

function abortLive(session, message) {
  closeLive(session);
  showFault("live", message);
}

function closeLive(session) {
  if (live === session) live = null;
  session.microphone?.close();
  $("ser-listen").textContent = "Listen";
}

// Posts a body with the choices of the page. Returns {html}, or {fault, status}; without a response, {fault}.
async function post(path, parameters, body) {
  const query = new URLSearchParams({ ...parameters, abstain_below: abstainBelow() });
  chosenModels().forEach((name) => query.append("model", name));
  try {
    const response = await fetch(`${path}?${query}`, { method: "POST", body });
    const text = await response.text();
    return response.ok ? { html: text } : { fault: JSON.parse(text).error, status: response.status };
  } catch (error) {
    return { fault: `The connection was lost (${error.message}). Is ser demo still running?` };
  }
}

function chosenModels() {
  const boxes = [...document.querySelectorAll("#ser-models input[type=checkbox]")];
  const names = JSON.parse($("ser-names").textContent);
  if (names.length < 2) return names;
  return names.filter((_, index) => boxes[index]?.checked);
}

function abstainBelow() {
  return document.querySelector("#ser-bound input[type=number]")?.value ?? 0;
}

// In the next three functions, `tab` is "clip" or "live".
function showState(tab, text) {
  $(`ser-${tab}-state`).textContent = text;
}

function showHtml(tab, html) {
  $(`ser-${tab}-out`).innerHTML = html;
}

function showFault(tab, text) {
  showState(tab, "");
  const box = document.createElement("div");
  box.className = "ser-fault";
  box.setAttribute("role", "alert");
  box.textContent = text;
  $(`ser-${tab}-out`).replaceChildren(box);
}

function toPcm16(blocks) {
  const samples = new Int16Array(blocks.reduce((length, block) => length + block.length, 0));
  const scale = (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x)));
  let index = 0;
  for (const block of blocks) for (const x of block) samples[index++] = scale(x);
  return samples;
}

function toWav(samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const setText = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  setText(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  setText(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true); // bytes a second
  header.setUint16(32, 2, true); // bytes a frame
  header.setUint16(34, 16, true); // bits a sample
  setText(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

// Draws one column of both live pictures in each animation frame: the loudest sample, and the levels up to 8 kHz.
function drawLive(session) {
  if (live !== session) return;
  const { analyser, rate } = session.microphone;
  const wave = new Float32Array(analyser.fftSize);
  const levels = new Uint8Array(analyser.frequencyBinCount);
  analyser.getFloatTimeDomainData(wave);
  analyser.getByteFrequencyData(levels);
  const top = Math.min(levels.length, Math.ceil((8000 / rate) * analyser.fftSize));
  drawLoudness($("ser-live-wave"), wave);
  drawSpectrum($("ser-live-spectrum"), levels.subarray(0, top));
  requestAnimationFrame(() => drawLive(session));
}

// Shifts a picture to the left by a column. Returns its context, and the position and the width of the free column.
function scroll(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const step = Math.max(1, Math.round(canvas.width / (SECONDS_SHOWN * 60))); // 60 animation frames a second
  context.globalCompositeOperation = "copy"; // clears the free column, too
  context.drawImage(canvas, -step, 0);
  context.globalCompositeOperation = "source-over";
  return [context, canvas.width - step, step];
}

function drawLoudness(canvas, wave) {
  const [context, x, step] = scroll(canvas);
  const loudest = wave.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const height = Math.max(1, loudest * canvas.height);
  context.fillStyle = getComputedStyle(canvas).color;
  context.fillRect(x, (canvas.height - height) / 2, step, height);
}

function drawSpectrum(canvas, levels) {
  const [context, x, step] = scroll(canvas);
  const binHeight = canvas.height / levels.length;
  levels.forEach((level, bin) => {
    context.fillStyle = `hsl(${270 + level / 3} 80% ${(level / 255) * 75}%)`;
    context.fillRect(x, canvas.height - (bin + 1) * binHeight, step, binHeight + 1);
  });
}
