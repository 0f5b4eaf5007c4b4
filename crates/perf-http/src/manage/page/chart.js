// Sparklines in SVG, whose scale starts at zero, and a heat map. What is missing is a gap, never a line at zero.

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

function scale(values, least) {
  const top = Math.max(least, ...values.filter((value) => value !== null));
  return (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 6);
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

export function draw(svg, values, least = 1) {
  const base = HEIGHT - 2;
  const parts = [element("line", { class: "base", x1: 0, x2: WIDTH, y1: base, y2: base })];
  for (const run of runs(values, scale(values, least))) {
    const from = run[0][0].toFixed(1);
    const to = run[run.length - 1][0].toFixed(1);
    parts.push(element("path", { class: "area", d: `${path(run)}L${to} ${base}L${from} ${base}Z` }));
    parts.push(element("path", { class: "line", d: line(run) }));
  }
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(...parts);
}

// Two steps of the heat map double the time; this one ends at a second.
const SECOND = 28;
const stepOf = (seconds) => SECOND + 2 * Math.log2(seconds);
const endOf = (step) => 2 ** ((step - SECOND) / 2);

// Columns of [step, count, step, count, …]: the darker, the more requests took that long. Two humps are two kinds of
// requests, which no line of percentiles shows. Returns the range of the scale in seconds, or nothing without requests.
export function heat(canvas, columns, lines) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  let [low, high, most] = [Infinity, -Infinity, 0];
  for (const column of columns) {
    for (let n = 0; n < column.length; n += 2) {
      low = Math.min(low, column[n]);
      high = Math.max(high, column[n]);
      most = Math.max(most, column[n + 1]);
    }
  }
  if (most === 0) return null;
  // At least two octaves, so that noise does not fill the picture.
  [low, high] = [Math.max(0, low - 1), Math.max(high, low + 3)];
  const wide = width / shown(columns.length);
  const tall = height / (high - low + 1);
  const x = (n) => width - (columns.length - n) * wide;
  const style = getComputedStyle(canvas);
  context.fillStyle = style.color;
  columns.forEach((column, n) => {
    for (let k = 0; k < column.length; k += 2) {
      context.globalAlpha = 0.12 + 0.7 * Math.sqrt(column[k + 1] / most);
      context.fillRect(x(n), height - (column[k] - low + 1) * tall, Math.ceil(wide), Math.ceil(tall));
    }
  });
  context.globalAlpha = 1;
  context.strokeStyle = getComputedStyle(document.body).color;
  for (const { values, dashed } of lines) {
    context.setLineDash(dashed ? [4 * ratio, 3 * ratio] : []);
    context.lineWidth = 1.4 * ratio;
    context.beginPath();
    let drawn = false;
    values.forEach((value, n) => {
      if (value === null || value <= 0) {
        drawn = false;
        return;
      }
      const y = height - (Math.min(Math.max(stepOf(value), low - 1), high) - low + 1) * tall;
      if (drawn) context.lineTo(x(n) + wide / 2, y);
      else context.moveTo(x(n) + wide / 2, y);
      drawn = true;
    });
    context.stroke();
  }
  return [endOf(low - 1), endOf(high)];
}
