// `state` decides what the page shows; call show() after every change. All scripts of the page
// are joined into one, so they share their names.
const data = JSON.parse(document.getElementById("match").textContent);
const $ = (id) => document.getElementById(id);
const video = $("video");
const NUM_HUES = 12;
const ZOOMS = [1, 2, 4, 8, 16, 32, 64];

// The detector's thresholds; `common` is set if all classes have the same.
const given = data.thresholds.filter((t) => t !== null);
const common = given.length && given.every((t) => t === given[0]) ? given[0] : null;

const state = {
  lowest: null, // null shows the events that the detector accepted
  off: new Set(),
  sort: "time",
  current: null,
  onlyEvents: false,
  zoom: 0,
  playable: true,
  time: 0,
  playerStartS: 0, // where the player's clock starts
};
const events = data.events.map((event, index) => ({ ...event, index, card: null, mark: null }));

function clockTime(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const whole = Math.floor(Math.max(0, seconds) * scale + 1e-6) / scale;
  const h = Math.floor(whole / 3600);
  const m = Math.floor(whole / 60) % 60;
  const s = (whole % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return `${h}:${String(m).padStart(2, "0")}:${s}`;
}

function matchClock(seconds) {
  const period = data.periods.filter((p) => p.kickoff <= seconds + 0.0005).pop();
  if (!period) return "";
  const minSec = (s) => `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
  const played = Math.floor(seconds - period.kickoff + 0.0005);
  const over = played - period.length;
  return over >= 0 && period.length > 0
    ? `${period.name} ${minSec(period.base + period.length)}+${minSec(over)}`
    : `${period.name} ${minSec(period.base + played)}`;
}

const hue = (label) => `k${label % NUM_HUES}`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const passes = (event) =>
  state.lowest === null ? event.accepted : event.score >= state.lowest - 1e-9;
const inClasses = (event) => !state.off.has(event.label);
const shownInTime = () => events.filter((event) => passes(event) && inClasses(event));

function lowestOf(label) {
  return state.lowest ?? data.thresholds[label] ?? null;
}
