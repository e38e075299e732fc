// Values as text. Nothing here knows of the page.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const SPANS = [
  [31_536_000, "y"],
  [2_592_000, "mo"],
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
const whole = new Intl.NumberFormat("en-GB");

export function bytes(size) {
  if (size === null || size === undefined) return "–";
  let unit = 0;
  let left = size;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || left >= 100 ? 0 : 1;
  return `${left.toFixed(digits)} ${UNITS[unit]}`;
}

export function number(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const text = (share * 100).toFixed(share > 0.99 && share < 1 ? 2 : 1);
  return `${text.replace(/\.0+$/, "")} %`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size < 1) return "less than 1 s";
  const index = SPANS.findIndex(([length]) => size >= length);
  const [length, unit] = SPANS[index];
  const count = Math.floor(size / length);
  const next = SPANS[index + 1];
  const rest = next ? Math.floor((size - count * length) / next[0]) : 0;
  return count < 3 && rest ? `${count} ${unit} ${rest} ${next[1]}` : `${count} ${unit}`;
}

function largest(seconds) {
  const [length, unit] = SPANS.find(([size]) => seconds >= size);
  return `${Math.floor(seconds / length)} ${unit}`;
}

export function ago(at, now = Date.now()) {
  const seconds = (now - Date.parse(at)) / 1000;
  if (seconds < 0) return `in ${span(-seconds)}`;
  return seconds < 1 ? "just now" : `${largest(seconds)} ago`;
}

const two = (value) => String(value).padStart(2, "0");

export function local(at) {
  const time = new Date(at);
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

export function utc(at) {
  return `${at.replace("T", " ").replace(/\.0+Z$/, "Z").replace("Z", "")} UTC`;
}

export function shortDigest(digest) {
  const [algorithm, hex] = digest.split(":");
  return hex ? `${algorithm}:${hex.slice(0, 12)}` : digest.slice(0, 19);
}

// Makes visible what would hide or turn round the text beside it: controls, bidi marks, invisible characters.
// eslint-disable-next-line no-control-regex
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

export function visible(text) {
  return String(text).replace(HIDDEN, (character) => `\u27e8U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

// The same for text of several lines, which stay lines.
export function visibleLines(text) {
  return String(text).split("\n").map(visible).join("\n");
}

export const SOURCES = {
  event: ["event", "The registry announced it: exact."],
  storage: ["storage", "From the registry's storage: an upper bound."],
  "image-config": ["image config", "From the image's config, which whoever builds it chooses."],
  "first-seen": ["first seen", "When a reconcile first saw it: it may be older."],
};

export const LOG_SOURCES = { walk: "reconcile" };
