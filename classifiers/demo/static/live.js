// Live sound: sent every half second, in order and without gaps. A chunk that the server was too busy for is sent again
// with the next chunk. It has the microphone's sample rate; the server resamples it.
import { openMicrophone } from "./microphone.js";
import { post } from "./requests.js";
import { toPcm16 } from "./wav.js";

const CHUNK_INTERVAL = 500; // milliseconds between two chunks
const KEPT = 60; // latest windows in the timeline of a model

// Starts a session. `onPredictions` is called with the latest windows of each model, by its name; `onState` with a text;
// `onFault` once, when the session has ended by itself. Returns {stop}. Raises Fault if there is no microphone.
export async function startLive(models, { onPredictions, onState, onFault }) {
  const session = { id: crypto.randomUUID?.() ?? String(Math.random()), models, waiting: [], unsent: [] };
  const timelines = Object.fromEntries(models.map((name) => [name, []]));
  session.microphone = await openMicrophone((block) => session.waiting.push(block));
  let [running, sending, timer] = [true, null, null];

  const take = (predictions) => {
    for (const one of predictions) timelines[one.model] = [...timelines[one.model], one].slice(-KEPT);
    if (predictions.length) onPredictions(timelines);
  };
  const sendNext = async () => {
    const start = performance.now();
    try {
      sending = sendChunk(session, "hear", onState);
      const predictions = await sending;
      if (!running) return take(predictions);
      take(predictions);
    } catch (fault) {
      if (!running) return;
      close();
      return onFault(fault);
    }
    timer = setTimeout(sendNext, Math.max(0, CHUNK_INTERVAL - (performance.now() - start)));
  };
  const close = () => {
    running = false;
    clearTimeout(timer);
    session.microphone.close();
  };
  const stop = async () => {
    if (!running) return;
    close();
    await Promise.allSettled([sending]);
    take(await sendChunk(session, "end", onState));
  };
  timer = setTimeout(sendNext, CHUNK_INTERVAL);
  return { stop };
}

// Sends the sound since the last chunk, after the sound that the server was too busy for. `route` is "hear" or "end".
async function sendChunk(session, route, onState) {
  const blocks = [...session.unsent, ...session.waiting.splice(0)];
  session.unsent = [];
  const parameters = { id: session.id, rate: session.microphone.rate, model: session.models };
  try {
    return await post(`/page/${route}`, parameters, toPcm16(blocks));
  } catch (fault) {
    if (fault.status !== 503) throw fault;
    session.unsent = blocks;
    onState("The server is busy; the answers are late.");
    return [];
  }
}
