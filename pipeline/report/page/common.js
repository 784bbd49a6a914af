// What the pages about one match share: the report and the studio. All scripts of a page are joined
// into one, so they share their names.
const $ = (id) => document.getElementById(id);
const NUM_HUES = 12;

function clockTime(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const whole = Math.floor(Math.max(0, seconds) * scale + 1e-6) / scale;
  const h = Math.floor(whole / 3600);
  const m = Math.floor(whole / 60) % 60;
  const s = (whole % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return `${h}:${String(m).padStart(2, "0")}:${s}`;
}

const hue = (label) => `k${label % NUM_HUES}`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Scores or loudness, one byte each, as numbers from 0 to 255.
const levelsOf = (encoded) => Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));

// Seconds from one tick of a time axis to the next, so that their texts do not touch.
function tickStep(pixelsPerS) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  return steps.find((s) => pixelsPerS * s >= 76) ?? 14400;
}

// The clock of a recording may start late, such as at 3600 s. Some browsers then start there too
// (Chromium), others at 0. The player is where its clock starts until something seeks.
const playerClockStart = (video, startS) => (video.currentTime > startS / 2 ? startS : 0);
