// What the page does: records, sends, shows. Sound goes to this page's own server alone, and is kept nowhere.
//
// A recording goes out whole, as WAV. Live sound goes out each half second, in order and without gaps: what the desk was
// too busy for goes with the next piece. Answers come as HTML, in which every text is escaped.
const EVERY = 500; // milliseconds between pieces
const SHOWN = 10; // seconds of sound in the pictures
const FIVE = 5000; // milliseconds
const LONGEST = 300; // seconds of a recording
const MOST = 64 * 2 ** 20; // bytes of a file
const FAULTS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's address bar, then try again.",
  NotFoundError: "No microphone was found. Plug one in, or choose a recording instead.",
  NotReadableError: "The microphone is in use by another program. Close that, then try again.",
};
const INSECURE = "Browsers give a page the microphone on this machine (localhost) or over HTTPS alone.";

const $ = (id) => document.getElementById(id);
let live = null;
let recording = null;

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (button?.id === "ser-listen") live ? stopListening(live) : listen();
  if (button?.id === "ser-record") recording ? stopRecording(recording) : record();
  if (button?.id === "ser-five" && !recording) record(FIVE);
  if (button?.dataset.example) tryOut(button.dataset.example);
});
document.addEventListener("change", (event) => {
  if (event.target.id === "ser-file" && event.target.files[0]) send(event.target.files[0], event.target.files[0].name);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const place = event.target.closest?.(".ser-drop");
    if (!place) return;
    event.preventDefault();
    place.classList.toggle("ser-over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file) send(file, file.name);
  });
}
window.addEventListener("pagehide", () => live && stopListening(live));

// Opens the microphone; `samples` is called with each block. Gives what closes it.
async function open(samples) {
  if (!navigator.mediaDevices) throw new Error(INSECURE);
  const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
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
  recorder.port.onmessage = ({ data }) => samples(data);
  source.connect(analyser);
  source.connect(recorder);
  return { rate: context.sampleRate, analyser, close };
}

async function record(length) {
  const mine = (recording = { pieces: [], microphone: null });
  say("clip", "Asking for the microphone …");
  try {
    mine.microphone = await open((piece) => mine.pieces.push(piece));
  } catch (error) {
    recording = null;
    return fault("clip", FAULTS[error.name] ?? error.message);
  }
  if (recording !== mine) return mine.microphone.close();
  $("ser-record").textContent = "Stop";
  say("clip", "Recording …");
  setTimeout(() => recording === mine && stopRecording(mine), length ?? LONGEST * 1000 - 1000);
}

async function stopRecording(mine) {
  recording = null;
  $("ser-record").textContent = "Record";
  if (!mine.microphone) return say("clip", "");
  mine.microphone.close();
  await send(wav(pcm(mine.pieces), mine.microphone.rate), "the recording");
}

async function tryOut(name) {
  const answer = await fetch(`/page/example?${new URLSearchParams({ name })}`);
  await send(await answer.blob(), name);
}

async function send(sound, name) {
  if (sound.size > MOST) return fault("clip", `${name} has ${sound.size.toLocaleString("en")} bytes; wanted ${MOST.toLocaleString("en")} at most.`);
  if (!chosen().length) return fault("clip", "Choose a model above.");
  const player = $("ser-player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(sound);
  player.hidden = false;
  say("clip", "Listening …");
  const said = await ask("/page/answer", { name }, sound);
  if (said.html === undefined) return fault("clip", said.fault);
  say("clip", "");
  show("clip", said.html);
}

async function listen() {
  if (!chosen().length) return fault("live", "Choose a model above.");
  const mine = (live = { id: crypto.randomUUID?.() ?? String(Math.random()), waiting: [], unsent: [], sending: null });
  say("live", "Asking for the microphone …");
  try {
    mine.microphone = await open((piece) => mine.waiting.push(piece));
  } catch (error) {
    live = null;
    return fault("live", FAULTS[error.name] ?? error.message);
  }
  if (live !== mine) return mine.microphone.close();
  show("live", "");
  $("ser-listen").textContent = "Stop";
  say("live", "Listening. The first answer takes three seconds of sound.");
  requestAnimationFrame(() => draw(mine));
  mine.timer = setTimeout(() => next(mine), EVERY);
}

async function next(mine) {
  const began = performance.now();
  mine.sending = piece(mine, "hear");
  const said = await mine.sending;
  if (live !== mine) return;
  if (said.fault) return finish(mine, said.fault);
  if (!chosen().length) return finish(mine, "Choose a model above, then press Listen again.");
  if (said.html) {
    show("live", said.html);
    say("live", "Listening.");
  }
  mine.timer = setTimeout(() => next(mine), Math.max(0, EVERY - (performance.now() - began)));
}

// Sends what was heard since the last piece, and before it what was not taken.
async function piece(mine, what) {
  const whole = [...mine.unsent, ...mine.waiting.splice(0)];
  mine.unsent = [];
  const said = await ask(`/page/${what}`, { id: mine.id, rate: mine.microphone.rate }, pcm(whole));
  if (said.status !== 503) return said;
  mine.unsent = whole;
  say("live", said.fault);
  return {};
}

async function stopListening(mine) {
  clearTimeout(mine.timer);
  release(mine);
  if (!mine.microphone) return say("live", "");
  say("live", "");
  await mine.sending;
  const said = await piece(mine, "end");
  if (!live && said.html) show("live", said.html);
  if (!live && said.fault) fault("live", said.fault);
}

function finish(mine, said) {
  release(mine);
  fault("live", said);
}

function release(mine) {
  if (live === mine) live = null;
  mine.microphone?.close();
  $("ser-listen").textContent = "Listen";
}

async function ask(path, facts, body) {
  const asked = new URLSearchParams({ ...facts, abstain_below: bound() });
  chosen().forEach((name) => asked.append("model", name));
  try {
    const answer = await fetch(`${path}?${asked}`, { method: "POST", body });
    const text = await answer.text();
    return answer.ok ? { html: text } : { fault: JSON.parse(text).error, status: answer.status };
  } catch (error) {
    return { fault: `The connection was lost (${error.message}). Is ser demo still running?` };
  }
}

function chosen() {
  const boxes = [...document.querySelectorAll("#ser-models input[type=checkbox]")];
  const names = JSON.parse($("ser-names").textContent);
  if (names.length < 2) return names;
  return names.filter((_, number) => boxes[number]?.checked);
}

function bound() {
  return document.querySelector("#ser-bound input[type=number]")?.value ?? 0;
}

function say(tab, text) {
  $(`ser-${tab}-state`).textContent = text;
}

function show(tab, html) {
  $(`ser-${tab}-out`).innerHTML = html;
}

function fault(tab, text) {
  say(tab, "");
  const place = document.createElement("div");
  place.className = "ser-fault";
  place.setAttribute("role", "alert");
  place.textContent = text;
  $(`ser-${tab}-out`).replaceChildren(place);
}

function pcm(pieces) {
  const whole = new Int16Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) for (const x of piece) whole[at++] = Math.max(-32768, Math.min(32767, Math.round(32768 * x)));
  return whole;
}

function wav(samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const word = (at, text) => [...text].forEach((letter, number) => header.setUint8(at + number, letter.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  word(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

// A column of pixels for each frame of the screen: the loudest sample, and the levels up to 8 kHz.
function draw(mine) {
  if (live !== mine) return;
  const { analyser, rate } = mine.microphone;
  const wave = new Float32Array(analyser.fftSize);
  const levels = new Uint8Array(analyser.frequencyBinCount);
  analyser.getFloatTimeDomainData(wave);
  analyser.getByteFrequencyData(levels);
  const top = Math.min(levels.length, Math.ceil((8000 / rate) * analyser.fftSize));
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
