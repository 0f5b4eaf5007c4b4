// A sparkline in SVG. What is missing is a gap, never a line at zero; the scale starts at zero unless it is logarithmic.

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 84;
// A minute, five, or a quarter of an hour: as much as there is something to show for.
const WINDOWS = [60, 300, 900];

export const shown = (points) => WINDOWS.find((window) => points <= window) ?? WINDOWS[WINDOWS.length - 1];

function element(name, attributes) {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function scale(series, logarithmic, least) {
  const known = series.flat().filter((value) => value !== null && value > 0);
  const top = Math.max(least, ...known);
  if (!logarithmic) return (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 6);
  const low = Math.log(Math.min(least, ...known));
  const range = Math.log(top) - low || 1;
  return (value) => HEIGHT - 2 - ((Math.log(Math.max(value, Math.exp(low))) - low) / range) * (HEIGHT - 6);
}

// Runs of neighbours that are known, as lists of [x, y].
function runs(values, y) {
  const last = shown(values.length) - 1;
  const found = [];
  let run = [];
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      if (run.length) found.push(run);
      run = [];
    } else {
      run.push([((last + 1 - values.length + index) / last) * WIDTH, y(value)]);
    }
  });
  if (run.length) found.push(run);
  return found;
}

const path = (run) => run.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// A run of one point is drawn as a short stroke, so that it is seen at all.
const line = (run) => (run.length > 1 ? path(run) : `${path(run)}h0.8`);

export function draw(svg, main, options = {}) {
  const { second = [], logarithmic = false, least = 1 } = options;
  const y = scale([main, second], logarithmic, least);
  const base = HEIGHT - 2;
  const parts = [element("line", { class: "base", x1: 0, x2: WIDTH, y1: base, y2: base })];
  for (const run of runs(main, y)) {
    const from = run[0][0].toFixed(1);
    const to = run[run.length - 1][0].toFixed(1);
    if (!logarithmic) parts.push(element("path", { class: "area", d: `${path(run)}L${to} ${base}L${from} ${base}Z` }));
    parts.push(element("path", { class: "line", d: line(run) }));
  }
  for (const run of runs(second, y)) parts.push(element("path", { class: "second", d: line(run) }));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(...parts);
}
