// The live page. Everything that comes from the server is written as text, never as markup.

import { clock, number, percent, plain, seconds, span } from "./format.js";
import { draw, heat, shown } from "./chart.js";

const POINTS = 900;
const STALE_AFTER = 3500;
const SIGNALS = ["traffic", "errors", "p50", "p99", "saturation", "heat"];
const MISSING = { heat: [] };
const ICONS = { up: "✔", degraded: "▲", down: "✖", unknown: "?" };

const $ = (id) => document.getElementById(id);
const say = (id, text) => {
  const node = $(id);
  const shown = plain(text);
  if (node.textContent !== shown) node.textContent = shown;
};

let history = Object.fromEntries(SIGNALS.map((signal) => [signal, []]));
let sequence = 0;
let heard = null;
let source = null;
let announced = "";

function cell(text, className) {
  const node = document.createElement("td");
  node.textContent = plain(text);
  if (className) node.className = className;
  return node;
}

function stateCell(status) {
  const node = cell(`${ICONS[status] ?? "?"} ${status}`, "short");
  node.dataset.status = status;
  return node;
}

function rows(id, lines, cells) {
  $(`${id}-none`).hidden = lines.length > 0;
  $(`${id}-rows`).closest(".scroll").hidden = lines.length === 0;
  const drawn = lines.map((line) => {
    const row = document.createElement("tr");
    row.append(...cells(line));
    return row;
  });
  const body = $(`${id}-rows`);
  // What did not change stays, so that a selection in it survives.
  const same = body.rows.length === drawn.length && drawn.every((row, n) => row.isEqualNode(body.rows[n]));
  if (!same) body.replaceChildren(...drawn);
}

function showVerdict({ state, sentence, since }) {
  $("verdict").dataset.state = state;
  say("verdict-icon", ICONS[state] ?? "?");
  say("verdict-word", state);
  say("verdict-sentence", sentence);
  say("verdict-since", `Since ${clock(since)}.`);
  // A screen reader hears changes of the state, not every second.
  if (announced !== state) say("announcer", `${state}: ${sentence}`);
  announced = state;
  document.title = `${ICONS[state] ?? "?"} ${$("service").textContent}`;
}

function showSignals({ window_seconds: window, traffic, errors, latency, saturation }) {
  const over = `last ${number(window)} s`;
  say("traffic-value", number(traffic.requests_per_second));
  say("traffic-more", `${number(traffic.in_flight)} in flight, ${number(traffic.streams)} streams; ${over}`);
  say("errors-value", percent(errors.ratio));
  say("errors-more", `${errors.server} failed, ${errors.panics} panics, ${errors.disconnects} clients left; ${over}`);
  say("latency-value", seconds(latency.p99));
  say("latency-unit", "p99");
  $("latency-value").classList.toggle("untrusted", !latency.trusted);
  const few = latency.trusted || latency.count === 0 ? "" : " (too few to trust)";
  say("latency-more", `p50 ${seconds(latency.p50)}, max ${seconds(latency.max)}, n = ${latency.count}${few}; ${over}`);
  say("saturation-value", percent(saturation?.ratio));
  say("saturation-more", saturation ? saturation.what : "nothing says how full it is");
}

function showCharts() {
  const minutes = shown(history.traffic.length) / 60;
  for (const chart of document.querySelectorAll(".chart")) {
    chart.setAttribute("aria-label", `${chart.dataset.what}, last ${minutes === 1 ? "minute" : `${minutes} minutes`}`);
  }
  draw($("traffic-chart"), history.traffic);
  draw($("errors-chart"), history.errors, 0.01);
  draw($("saturation-chart"), history.saturation);
  const lines = [{ values: history.p99 }, { values: history.p50, dashed: true }];
  const range = heat($("latency-chart"), history.heat, lines);
  say("latency-scale", range ? `${seconds(range[0])} – ${seconds(range[1])}, logarithmic, p50 dashed` : "");
}

function show(state) {
  say("service", state.service);
  const version = state.version ? `version ${state.version}, ` : "";
  say("about", `${version}up ${span(state.uptime_seconds)}, since ${clock(state.started)}`);
  showVerdict(state.verdict);
  showSignals(state.signals);
  showCharts();
  rows("components", state.components, (line) => [
    stateCell(line.status), cell(line.kind, "short"), cell(line.name), cell(line.reason),
  ]);
  rows("routes", state.routes, (line) => [
    cell(`${line.method} ${line.route}`), cell(`${percent(line.share)} %`, "number"),
    cell(number(line.requests_per_second), "number"), cell(seconds(line.p50), "number"),
    cell(seconds(line.p99), "number"), cell(line.error_ratio === null ? "–" : `${percent(line.error_ratio)} %`, "number"),
  ]);
  say("self", `This page: ${number(state.viewers)} watching, one tick costs the service ${seconds(state.tick_seconds)}. Charts show the last ${shown(history.traffic.length) / 60} min in steps of 1 s.`);
}

function take(state) {
  if (state.history) {
    history = state.history;
  } else if (state.sequence > sequence) {
    // Ticks that were missed are gaps.
    const missed = Math.min(state.sequence - sequence - 1, POINTS);
    for (const signal of SIGNALS) {
      const values = history[signal];
      for (let n = 0; n < missed; n += 1) values.push(MISSING[signal] ?? null);
      values.push(state.point[signal]);
      if (values.length > POINTS) values.splice(0, values.length - POINTS);
    }
  }
  sequence = state.sequence;
  heard = performance.now();
  show(state);
  beacon();
}

// A page that does not move must look as if it did not.
function beacon() {
  const age = heard === null ? null : performance.now() - heard;
  const stale = age !== null && age > STALE_AFTER;
  $("beacon").dataset.state = age === null ? "waiting" : stale ? "stale" : "live";
  document.body.dataset.stale = String(stale);
  if (age === null) say("beacon-text", "connecting");
  else say("beacon-text", stale ? `stale for ${span(age / 1000)}` : "live");
}

function listen() {
  source?.close();
  source = new EventSource("events");
  for (const kind of ["snapshot", "tick"]) {
    source.addEventListener(kind, (event) => take(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    // A refusal ends the stream for good; what was cut is opened again by the browser itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  });
}

// Nobody looks at a hidden page: it stops listening, and starts with a fresh snapshot when it is seen again.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else listen();
});

// A canvas keeps the colours and the size it was painted with.
for (const query of ["(prefers-color-scheme: dark)", "(resolution: 1dppx)"]) matchMedia(query).addEventListener("change", showCharts);
addEventListener("resize", showCharts);

setInterval(beacon, 500);
fetch("overview", { headers: { accept: "application/json" } })
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`HTTP ${answer.status}`))))
  .then(take)
  .catch((error) => say("beacon-text", error.message))
  .finally(listen);
