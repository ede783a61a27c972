// Requests to the HTTP API of the server that serves this page.
import { responseFault, UNREACHABLE } from "./faults.js";

const BUSY_RETRIES = 5; // a recording is sent again this often while the server is busy
const WINDOW = 3; // least length of the windows of a timeline, in seconds
const WINDOWS = 60; // about the most windows of a timeline

// Posts a body and returns the predictions in the response. Raises Fault; `fault.status` is that of the response.
export async function post(path, parameters, body, signal) {
  const response = await request(path, parameters, body, signal);
  return (await response.json()).predictions;
}

async function request(path, parameters, body, signal) {
  let response;
  try {
    response = await fetch(`${path}?${query(parameters)}`, { method: "POST", body, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : UNREACHABLE;
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: "It gave no reason." }));
  throw Object.assign(responseFault(response.status, error), {
    status: response.status,
    wait: Number(response.headers.get("Retry-After")),
  });
}

// Does `send` again while the server is busy. `onBusy` is called before each wait.
async function patiently(send, signal, onBusy) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await send();
    } catch (fault) {
      if (fault.status !== 503 || attempt === BUSY_RETRIES) throw fault;
      onBusy();
      await new Promise((resolve) => setTimeout(resolve, 1000 * (fault.wait || 1)));
      signal.throwIfAborted();
    }
  }
}

// The page asks for no abstention, and applies that of its slider itself.
export function predictWhole(sound, name, models, signal, onBusy) {
  const parameters = { name, model: models, attribution: true };
  return patiently(() => post("/api/predict", parameters, sound, signal), signal, onBusy);
}

// Predicts the windows of a recording that lasts longer than one. Calls `onPrediction` with each as soon as it arrives.
export async function predictWindows(sound, name, models, seconds, signal, onBusy, onPrediction) {
  if (seconds <= WINDOW) return;
  const hop = Math.max(1, seconds / WINDOWS);
  const parameters = { name, model: models, window: Math.max(WINDOW, hop), hop };
  const response = await patiently(() => request("/api/timeline", parameters, sound, signal), signal, onBusy);
  for await (const line of lines(response)) {
    const { event, error, ...prediction } = JSON.parse(line);
    if (event === "error") throw responseFault(422, error);
    if (event === "prediction") onPrediction(prediction);
  }
}

// Yields the lines of a response while it arrives. Raises Fault if the connection is lost.
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : UNREACHABLE;
    });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

export async function fetchExample(name) {
  try {
    const response = await fetch(`/page/example?${query({ name })}`);
    return await response.blob();
  } catch {
    throw UNREACHABLE;
  }
}

function query(parameters) {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  return new URLSearchParams(pairs);
}
