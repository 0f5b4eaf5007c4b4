// Numbers as people read them: three digits, a unit, and a dash for what nobody knows.

const DASH = "–";

// Names come from outside. What turns the direction of writing or drives a terminal is shown as a sign of itself.
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function plain(text) {
  return String(text).replace(INVISIBLE, "\ufffd");
}

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function percent(ratio) {
  return ratio === null || ratio === undefined ? DASH : number(ratio * 100);
}

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  if (value >= 1) return `${number(value)} s`;
  return value >= 1e-3 ? `${number(value * 1e3)} ms` : `${number(value * 1e6)} µs`;
}

export function span(value) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, name] of units) {
    if (value >= size) return `${Math.floor(value / size)} ${name}`;
  }
  return `${Math.floor(value)} s`;
}

export function clock(milliseconds) {
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
  return new Date(milliseconds).toLocaleTimeString(undefined, options);
}
