// One card for each model: the likeliest label, then the probabilities of all labels in the same order and numbers.
import { element, percent } from "./dom.js";

// Notes of the server that advise options of the command line; the page has others. By the first word of the note.
const ADVICE = {
  Silence: "Check that the right microphone is chosen and not muted, then record again.",
  Only: "Record a whole sentence.",
  Long: "The timeline below shows how it changes.",
  Cut: "The timeline below shows the other parts.",
  Channels: "Save one of them as a file of its own.",
};

const SYNTHETIC = "Trained on synthetic voices: this says nothing about emotion.";

// Returns what the page says about a prediction: "sure", "unsure" or "silent"; `bound` is the least probability of a label.
export function verdict(prediction, bound) {
  if (prediction.label === null) return "silent"; // the page asks for no abstention, so there was too little audible sound
  return prediction.probabilities[prediction.label] < bound ? "unsure" : "sure";
}

export function ranked(prediction) {
  return Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]);
}

// Returns the card of a model {title, synthetic, layers?} and its prediction of a recording or of the last window.
export function answerCard(model, prediction, bound) {
  const kind = verdict(prediction, bound);
  return element(
    "section",
    { class: `card answer ${kind}`, "aria-label": model.title },
    element(
      "div",
      { class: "verdict" },
      element("h3", {}, model.title),
      headline(prediction, kind),
      element("p", { class: "why" }, explanation(prediction, kind, bound)),
      model.synthetic ? element("p", { class: "note" }, SYNTHETIC) : null,
      ...prediction.notes.map((note) => element("p", { class: "note" }, adviceFor(note))),
    ),
    kind === "silent" ? null : bars(prediction, bound),
    model.layers ? layerChart(model.layers) : null,
  );
}

// Returns the same in one sentence, for screen readers.
export function spoken(model, prediction, bound) {
  const kind = verdict(prediction, bound);
  if (kind === "silent") return `${model.title}: too little sound.`;
  const [label, share] = ranked(prediction)[0];
  return `${model.title}: ${kind === "sure" ? label : `not sure, at most ${label}`}, ${percent(share)}.`;
}

function headline(prediction, kind) {
  const [label, share] = ranked(prediction)[0];
  if (kind === "silent") return element("p", { class: "label" }, element("strong", {}, "too little sound"));
  if (kind === "unsure") return element("p", { class: "label" }, element("strong", {}, "not sure"));
  return element("p", { class: "label" }, element("strong", {}, label), " ", element("span", {}, percent(share)));
}

function explanation(prediction, kind, bound) {
  const [label, share] = ranked(prediction)[0];
  if (kind === "silent") return "There is no voice to judge.";
  if (kind === "unsure") return `The likeliest label, ${label}, has ${percent(share)}. Your limit for “not sure” is ${percent(bound)}.`;
  return bound ? `Above your limit for “not sure”, ${percent(bound)}.` : "";
}

function adviceFor(note) {
  const advice = ADVICE[note.split(/[: ]/, 1)[0]];
  const end = note.indexOf(". ");
  if (!advice) return note;
  return `${end < 0 ? note : note.slice(0, end + 1)} ${advice}`;
}

function bars(prediction, bound) {
  const rows = ranked(prediction).map(([label, share]) => {
    const bar = element("i");
    bar.style.width = `${100 * share}%`;
    return element(
      "tr",
      { class: share < bound ? "below" : null },
      element("th", { scope: "row" }, label),
      element("td", { class: "bar", "aria-hidden": "true" }, bar),
      element("td", {}, percent(share)),
    );
  });
  const table = element("table", { class: "bars" }, element("caption", {}, `Probability of each label, by this model${bound ? "; dashed: your limit" : ""}`), ...rows);
  table.style.setProperty("--bound", `${100 * bound}%`);
  return table;
}

function layerChart(shares) {
  const largest = Math.max(...shares);
  const columns = shares.map((share, layer) => {
    const bar = element("i");
    bar.style.height = `${(100 * share) / largest}%`;
    return element("span", { title: `layer ${layer}: ${percent(share)}` }, bar, element("b", {}, String(layer)));
  });
  const text = shares.map((share, layer) => `layer ${layer}: ${percent(share)}`).join(", ");
  return element(
    "div",
    { class: "layers" },
    element("h4", {}, "Weight of each layer of the encoder"),
    element("div", { class: "columns", role: "img", "aria-label": text }, ...columns),
  );
}
