// Requests to the HTTP API of the server that serves this page.
import { Fault, responseFault, UNREACHABLE } from "./faults.js";

const BUSY_RETRIES = 5; // a recording is sent again this often while the server is busy
const WINDOW = 3; // least length of the windows of a timeline, in seconds
const WINDOWS = 60; // about the most windows of a timeline

// Posts a body and returns the predictions in the response. Raises Fault; `fault.status` is that of the response.
export async function post(path, parameters, body, signal) {
  let response, answer;
  try {
    response = await fetch(`${path}?${query(parameters)}`, { method: "POST", body, signal });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response?.ok === false) throw withStatus(responseFault(response.status, "It sent no reason."), response);
    throw UNREACHABLE;
  }
  if (!response.ok) throw withStatus(responseFault(response.status, answer.error), response);
  return answer.predictions;
}

// Posts a recording, again while the server is busy. `onBusy` is called before each wait.
export async function postPatiently(path, parameters, body, signal, onBusy) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await post(path, parameters, body, signal);
    } catch (fault) {
      if (!(fault instanceof Fault) || fault.status !== 503 || attempt === BUSY_RETRIES) throw fault;
      onBusy();
      await new Promise((resolve) => setTimeout(resolve, 1000 * (fault.wait || 1)));
      signal.throwIfAborted();
    }
  }
}

// The page asks for no abstention, and applies that of its slider itself.
export function predictWhole(sound, name, models, signal, onBusy) {
  return postPatiently("/api/predict", { name, model: models, attribution: true }, sound, signal, onBusy);
}

// Returns the predictions of windows, for a recording that lasts longer than one.
export async function predictWindows(sound, name, models, seconds, signal, onBusy) {
  if (seconds <= WINDOW) return [];
  const hop = Math.max(1, seconds / WINDOWS);
  const parameters = { name, model: models, window: Math.max(WINDOW, hop), hop };
  return postPatiently("/api/predict", parameters, sound, signal, onBusy);
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

function withStatus(fault, response) {
  return Object.assign(fault, { status: response.status, wait: Number(response.headers.get("Retry-After")) });
}
