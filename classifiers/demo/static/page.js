// The page: what the buttons do, and what is shown. The other modules each hold one thing that it uses.
import { answerCard, spoken } from "./answers.js";
import { $, clock, element } from "./dom.js";
import { Fault, NO_MODEL } from "./faults.js";
import { startLive } from "./live.js";
import { openMicrophone } from "./microphone.js";
import { buildPlayer, load, show, unload, whenMoved } from "./player.js";
import { fetchExample, predictWhole, predictWindows } from "./requests.js";
import { timelineRows } from "./timeline.js";
import { toPcm16, toWav } from "./wav.js";

const MAX_SECONDS = Number(document.body.dataset.maxSeconds); // of a recording
const MAX_BYTES = Number(document.body.dataset.maxBytes); // of a file
const REDRAW = 500; // milliseconds between two texts on how far the timeline is
const SPEECH_PAUSE = 3000; // least milliseconds between two announcements of live answers

let session = null; // what uses the microphone: {stop(discard), button}
let sound = null; // the last recording: {blob, name}
let answers = null; // what is shown: {live, seconds, models: [{name, title, whole, windows, layers, frames}]}
let request = new AbortController(); // of the recording that is being predicted
let lastSpoken = { at: 0, text: "" };

buildPlayer();
$("record").addEventListener("click", () => toggle($("record"), startRecording));
$("listen").addEventListener("click", () => toggle($("listen"), startListening));
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  $("file").value = ""; // the same file may be chosen again
  if (file) predict(file, file.name);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => predictExample(button.dataset.example));
}
$("bound").addEventListener("input", () => {
  $("bound-value").textContent = `${$("bound").value} %`;
  showAnswers();
});
$("models").addEventListener("change", () => {
  if (session) session.stop();
  else if (sound) predict(sound.blob, sound.name);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) predict(file, file.name);
});
window.addEventListener("pagehide", () => session?.stop(true));

// Starts what a button starts, or stops it. Whatever else uses the microphone is stopped first.
async function toggle(button, start) {
  const running = session;
  await running?.stop(running.button !== button);
  if (running?.button === button) return;
  if (!chosenModels().length) return showFault(NO_MODEL);
  request.abort();
  clear();
  showState("Waiting for the microphone. Allow it if the browser asks.");
  for (const one of [$("record"), $("listen")]) one.disabled = true;
  try {
    session = await start();
    showRunning(button, "Stop");
  } catch (fault) {
    showFault(fault);
  }
  for (const one of [$("record"), $("listen")]) one.disabled = false;
}

function showRunning(button, text) {
  button.dataset.text ??= button.querySelector(".text").textContent;
  button.querySelector(".text").textContent = text ?? button.dataset.text;
  button.classList.toggle("running", Boolean(text));
}

async function startRecording() {
  const blocks = [];
  const microphone = await openMicrophone((block) => blocks.push(block));
  const stop = async (discard = false) => {
    clearTimeout(timer);
    session = null;
    microphone.close();
    showRunning($("record"));
    if (!discard) await predict(toWav(toPcm16(blocks), microphone.rate), "your recording");
  };
  const timer = setTimeout(() => stop(), 1000 * (MAX_SECONDS - 1));
  showEmpty("The answer comes when you press Stop.");
  showState("Recording. Say a whole sentence, then press Stop.");
  return { stop, button: $("record") };
}

async function startListening() {
  const models = chosenModels();
  const end = () => {
    session = null;
    showRunning($("listen"));
    showState("");
  };
  const live = await startLive(
    models.map(({ name }) => name),
    {
      onPredictions: (timelines) => showLive(models, timelines),
      onState: showState,
      onFault: (fault) => (end(), showFault(fault)),
    },
  );
  showEmpty("Listening. The first answer needs three seconds of sound.");
  showState("Listening. Every half second, the last three seconds are judged. Nothing of this is kept.");
  const stop = async () => {
    end();
    await live.stop().catch(showFault);
  };
  return { stop, button: $("listen") };
}

function showLive(models, timelines) {
  const seen = models.filter(({ name }) => timelines[name].length);
  answers = {
    live: true,
    models: seen.map((model) => ({ ...model, whole: timelines[model.name].at(-1), windows: timelines[model.name] })),
  };
  if (session) showState("Listening. Every half second, the last three seconds are judged. Nothing of this is kept.");
  showAnswers();
}

async function predictExample(name) {
  try {
    await predict(await fetchExample(name), name);
  } catch (fault) {
    showFault(fault);
  }
}

// Predicts a recording: first as a whole, which is shown at once, then its windows.
async function predict(blob, name) {
  request.abort();
  const { signal } = (request = new AbortController());
  const models = chosenModels();
  await session?.stop(true);
  clear();
  sound = { blob, name };
  try {
    if (!models.length) throw NO_MODEL;
    checkSize(blob);
    $("result").setAttribute("aria-busy", "true");
    showEmpty(`Judging ${name} …`);
    checkDuration(await load(blob));
    const names = models.map((model) => model.name);
    const onBusy = () => showState("The server is busy. Trying again …");
    const wholes = await predictWhole(blob, name, names, signal, onBusy);
    await showRecording(models, wholes, name, blob);
    await predictTimeline(names, signal, onBusy);
  } catch (fault) {
    if (signal.aborted) return;
    showFault(fault);
  }
  $("result").setAttribute("aria-busy", "false");
}

// Adds the windows to the answers that are shown. Without them, the answers stand.
async function predictTimeline(names, signal, onBusy) {
  let written = performance.now();
  const take = (prediction) => {
    answers.models.find((model) => model.name === prediction.model).windows.push(prediction);
    if (performance.now() - written < REDRAW) return;
    showState(`Judging the parts of ${sound.name}: ${clock(prediction.end)} of ${clock(answers.seconds)} …`);
    written = performance.now();
  };
  try {
    await predictWindows(sound.blob, sound.name, names, answers.seconds, signal, onBusy, take);
    showState("");
  } catch (fault) {
    if (signal.aborted || !(fault instanceof Fault)) throw fault;
    for (const model of answers.models) model.windows = [];
    showState(`The answers over time are missing. ${fault.title}. ${fault.advice}`);
  }
  showAnswers();
}

function checkSize(blob) {
  const megabytes = (bytes) => Math.ceil(bytes / 2 ** 20);
  if (blob.size <= MAX_BYTES) return;
  const sizes = `It has ${megabytes(blob.size)} MB; this page takes up to ${megabytes(MAX_BYTES)} MB.`;
  throw new Fault("This file is too large", `${sizes} Cut it, or save it as MP3 or FLAC.`);
}

function checkDuration(seconds) {
  if (seconds === null || seconds <= MAX_SECONDS) return;
  const times = `It lasts ${clock(seconds)} minutes; this page takes up to ${clock(MAX_SECONDS)}.`;
  throw new Fault("This recording is too long", `${times} Cut it, or use the command line: ser predict MODEL FILE --window 3`);
}

async function showRecording(models, wholes, name, blob) {
  answers = {
    live: false,
    seconds: wholes[0].end,
    models: models.map((model, index) => ({ ...model, whole: wholes[index], windows: [], layers: wholes[index].layers, frames: wholes[index].frames })),
  };
  $("sound-title").textContent = `The recording: ${name}, ${answers.seconds.toFixed(answers.seconds < 1 ? 2 : 1)} s`;
  $("sound").hidden = false;
  showAnswers();
  announce(answers.models.map((model) => spoken(model, model.whole, bound())).join(" "));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("result").scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  await show(blob, answers.seconds);
}

function showAnswers() {
  if (!answers) return;
  $("empty").hidden = true;
  $("result-title").textContent = answers.live ? "Answer for the last three seconds" : "Answer for the whole recording";
  $("answers").replaceChildren(...answers.models.map((model) => answerCard(model, model.whole, bound())));
  const shown = answers.models.filter(({ windows }) => windows.length > 1);
  const rows = shown.map((model) => timelineRows(model, model.whole, model.windows, spanOf(model), bound()));
  const titled = (model, { nodes }) => (shown.length > 1 ? [element("h4", { class: "wide" }, model.title), ...nodes] : nodes);
  $("timeline").replaceChildren(...rows.flatMap((one, index) => titled(shown[index], one)), ...(rows.length ? axis(spanOf(shown[0])) : []));
  $("player").hidden = answers.live;
  $("sound").classList.toggle("live", answers.live);
  $("windows").hidden = !rows.length;
  if (!answers.live) return whenMoved([showNumbersAt, ...rows.map(({ showAt }) => showAt)]);
  $("sound").hidden = !rows.length;
  $("sound-title").textContent = "Up to now";
  $("windows").textContent = "Judged in pieces of 3 seconds, each drawn around its middle. The numbers are the latest.";
  announceLive();
}

function showNumbersAt(seconds) {
  const [first] = answers.models.flatMap(({ windows }) => windows);
  const length = first ? (first.end - first.begin).toFixed(0) : "";
  $("windows").textContent = `Judged in pieces of ${length} seconds, each drawn around its middle. The numbers are those at ${clock(seconds, 1)}.`;
}

function axis([begin, end]) {
  const ends = element("div", { class: "ends" }, element("span", {}, `${begin.toFixed(1)} s`), element("span", {}, `${end.toFixed(1)} s`));
  return [element("span"), ends, element("span")];
}

function spanOf({ windows }) {
  return answers.live ? [windows[0].begin, windows.at(-1).end] : [0, answers.seconds];
}

function announce(text) {
  $("announcement").textContent = text;
  lastSpoken = { at: performance.now(), text };
}

// Live answers are announced when they change, and not all the time.
function announceLive() {
  const text = answers.models.map((model) => spoken(model, model.whole, bound()).replace(/, [<>]?\d+ %/, "")).join(" ");
  if (text !== lastSpoken.text && performance.now() - lastSpoken.at > SPEECH_PAUSE) announce(text);
}

function clear() {
  [answers, sound] = [null, null];
  unload();
  $("fault").replaceChildren();
  $("result-title").textContent = "Answer";
  showState("");
  $("answers").replaceChildren();
  $("timeline").replaceChildren();
  $("sound").hidden = true;
  $("empty").hidden = true;
}

function showEmpty(text) {
  $("empty").hidden = false;
  $("empty").textContent = text;
}

function showState(text) {
  $("state").textContent = text;
}

function showFault(fault) {
  const { title, advice, again } = fault instanceof Fault ? fault : new Fault("This page made an error", `${fault}. Reload it.`);
  const retry = element("button", { class: "small" }, "Try again");
  const { blob, name } = sound ?? {};
  retry.addEventListener("click", () => predict(blob, name));
  clear();
  showState("");
  const box = element("div", { class: "fault", role: "alert" }, element("strong", {}, title), element("p", {}, advice));
  if (again && blob) box.append(retry);
  $("fault").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}

function chosenModels() {
  const boxes = [...document.querySelectorAll("#models input:checked")];
  return boxes.map((box) => ({ name: box.value, title: box.dataset.title, synthetic: "synthetic" in box.dataset }));
}

function bound() {
  return Number($("bound").value) / 100;
}
