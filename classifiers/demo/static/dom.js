// Elements and numbers as text. Text from models and files enters the page as text nodes only, and is never parsed.
export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// Returns an HTML element with attributes and children (elements, texts, or null for none).
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Returns a probability in whole percent. Only 0 is "0 %", and only 1 is "100 %".
export function percent(share) {
  if (share > 0 && share < 0.005) return "<1 %";
  if (share < 1 && share >= 0.995) return ">99 %";
  return `${Math.round(100 * share)} %`;
}

// Returns seconds as minutes and seconds: "0:03", or "0:03.4" with one decimal.
export function clock(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const rounded = Math.round(seconds * scale) / scale;
  const rest = (rounded % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return `${Math.floor(rounded / 60)}:${rest}`;
}
