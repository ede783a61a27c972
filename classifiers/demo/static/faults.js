// What can go wrong, in plain words: a title, what to do about it, and whether the same again may work.
export class Fault extends Error {
  constructor(title, advice, again = false) {
    super(title);
    Object.assign(this, { title, advice, again });
  }
}

const MICROPHONE = {
  NotAllowedError: [
    "This page may not use the microphone",
    "Allow it in the browser's address bar, then press the button again. Or choose a file instead.",
  ],
  NotFoundError: ["No microphone was found", "Plug one in, then press the button again. Or choose a file instead."],
  NotReadableError: [
    "The microphone is in use by another program",
    "Close that program, then press the button again. Or choose a file instead.",
  ],
};

export const INSECURE = new Fault(
  "This browser gives this page no microphone",
  "Browsers allow it only on this machine (localhost) or over HTTPS. Or choose a file instead.",
);
export const NO_MODEL = new Fault("No model is chosen", "Choose at least one model above.");
export const UNREACHABLE = new Fault(
  "The server does not answer",
  "Is ser demo still running? Start it again in its terminal, then try again.",
  true,
);

export function microphoneFault(error) {
  if (error instanceof Fault) return error;
  return new Fault(...(MICROPHONE[error.name] ?? ["The microphone cannot be used", `${error.message}. Or choose a file instead.`]));
}

// Returns the fault of a response: its status gives the title, and mostly the server's sentence the advice.
export function responseFault(status, sentence) {
  const faults = {
    401: ["The password is missing", "Reload this page, and give the user and the password again."],
    404: ["The models have changed", "Reload this page."],
    408: ["The recording arrived too slowly", "Try again, or send a shorter recording.", true],
    413: ["This file is too large", sentence],
    422: ["This recording cannot be used", sentence],
    503: ["The server is busy", "Other recordings are waiting before this one. Try again in a moment.", true],
  };
  if (status >= 500 && status !== 503) return new Fault("The server made an error", sentence, true);
  return new Fault(...(faults[status] ?? ["The server refused this", sentence]));
}
