// The predictions of the windows as rows under the waveform: the label of each window, then the curve of each label.
//
// Windows overlap. Each is drawn around its middle, up to half way to the middles of its neighbours.
import { element, percent, svg } from "./dom.js";
import { ranked, verdict } from "./answers.js";

// Returns the rows of one model, and a function that shows the values at a time. `span` is [begin, end] in seconds; the
// order of the labels is that of `first`, the prediction whose bars are shown above.
export function timelineRows(model, first, windows, span, bound) {
  const edges = windowEdges(windows, span);
  const curves = ranked(first).map(([label]) => curveRow(label, windows, edges, span));
    const attention = model.frames ? attentionRow(model.frames) : null;
  const labels = labelRow(windows, edges, span, bound);
  const showAt = (seconds) => {
    const index = Math.max(0, edges.findLastIndex((edge, number) => number < windows.length && edge <= seconds));
    for (const { value, values } of curves) value.textContent = values[index] === null ? "–" : percent(values[index]);
  };
  showAt(span[1]);
  const nodes = [...labels, ...(attention ?? []), ...curves.flatMap(({ nodes }) => nodes)];
  return { nodes, showAt };
}

// Returns a row of the grid: a name, the track that shares the time axis with the waveform, and a value.
export function row(name, track, value = null) {
  return [element("span", { class: "name" }, name), element("div", { class: "track" }, track), value ?? element("span")];
}

function windowEdges(windows, [begin, end]) {
  const middles = windows.map((one) => (one.begin + one.end) / 2);
  return [begin, ...middles.slice(1).map((middle, index) => (middle + middles[index]) / 2), end];
}

// Joins neighbours with the same label; a window without a label looks like one.
function labelRow(windows, edges, [begin, end], bound) {
  const texts = windows.map((one) => ({ sure: one.label, unsure: "not sure", silent: "silence" })[verdict(one, bound)]);
  const kinds = windows.map((one) => verdict(one, bound));
  const segments = [];
  for (let index = 0; index < texts.length; index++) {
    const same = segments.at(-1)?.text === texts[index];
    if (same) segments.at(-1).to = edges[index + 1];
    else segments.push({ text: texts[index], kind: kinds[index], from: edges[index], to: edges[index + 1] });
  }
  const nodes = segments.map(({ text, kind, from, to }) => {
    const time = `${from.toFixed(1)} to ${to.toFixed(1)} s`;
    const node = element("span", { class: `segment ${kind}`, title: `${text}, ${time}` }, element("span", {}, text));
    node.style.left = `${(100 * (from - begin)) / (end - begin)}%`;
    node.style.width = `${(100 * (to - from)) / (end - begin)}%`;
    return node;
  });
  const spoken = segments.map(({ text, from, to }) => `${text} from ${from.toFixed(1)} to ${to.toFixed(1)} s`).join(", ");
  return row("label", element("div", { class: "segments", role: "img", "aria-label": spoken }, ...nodes));
}

function curveRow(label, windows, edges, [begin, end]) {
  const values = windows.map((one) => (one.label === null ? null : one.probabilities[label]));
  const steps = values.map((value, index) => `L${edges[index] - begin} ${-(value ?? 0)}L${edges[index + 1] - begin} ${-(value ?? 0)}`);
  const text = `${label}: at most ${percent(Math.max(...values.map((value) => value ?? 0)))}`;
  const value = element("span", { class: "value" });
  const picture = stretched(`0 -1 ${end - begin} 1`, text, `M0 0${steps.join("")}L${end - begin} 0Z`, "curve");
  return { nodes: row(label, picture, value), value, values };
}

// The share of each frame in the prediction of the whole recording, relative to the largest.
function attentionRow(frames) {
  const largest = Math.max(...frames, 1e-9);
  const steps = frames.map((share, index) => `L${index} ${-share / largest}L${index + 1} ${-share / largest}`);
  const text = `Attention, highest at ${Math.round((100 * (frames.indexOf(largest) + 0.5)) / frames.length)} % of the recording`;
  return row("attention", stretched(`0 -1 ${frames.length} 1`, text, `M0 0${steps.join("")}L${frames.length} 0Z`, "attention"));
}

function stretched(viewBox, text, path, kind) {
  const attributes = { viewBox, preserveAspectRatio: "none", role: "img", "aria-label": text, class: kind };
  return svg("svg", attributes, svg("path", { d: path }));
}
