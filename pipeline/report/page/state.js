// `state` decides what the page shows; call show() after every change.
const data = JSON.parse(document.getElementById("match").textContent);
const video = $("video");
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

const passes = (event) =>
  state.lowest === null ? event.accepted : event.score >= state.lowest - 1e-9;
const inClasses = (event) => !state.off.has(event.label);
const shownInTime = () => events.filter((event) => passes(event) && inClasses(event));

function lowestOf(label) {
  return state.lowest ?? data.thresholds[label] ?? null;
}
