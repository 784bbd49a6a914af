// Keys and buttons, and the start.
function undo() {
  saveDraft();
  act({ do: "undo" }, "undo").then((done) => done && say("undone"));
}

function redo() {
  saveDraft();
  act({ do: "redo" }, "redo").then((done) => done && say("redone"));
}

const keys = {
  " ": togglePlay,
  ",": () => stepFrame(-1), ".": () => stepFrame(1),
  "<": () => jumpTo(state.time - 1), ">": () => jumpTo(state.time + 1),
  ArrowLeft: () => jumpTo(state.time - 5), ArrowRight: () => jumpTo(state.time + 5),
  "shift ArrowLeft": () => jumpTo(state.time - 30), "shift ArrowRight": () => jumpTo(state.time + 30),
  Home: () => jumpTo(0), End: () => jumpTo(match().durationS),
  q: () => changeSpeed(-1), w: () => changeSpeed(1),
  l: toggleLoop, f: toggleFullScreen, s: toggleSound,
  i: () => setStretch("in"), o: () => setStretch("out"),
  I: () => putHere("start"), O: () => putHere("end"),
  "[": () => nudge("start", -1), "]": () => nudge("start", 1),
  "{": () => nudge("end", -1), "}": () => nudge("end", 1),
  j: () => step(1), k: () => step(-1),
  y: accept, Enter: accept, x: refuse, Backspace: refuse, Delete: refuse,
  c: askForClass,
  n: () => {
    if (state.selected?.kind === "mark") $("note").focus();
  },
  z: undo, Z: redo, "ctrl z": undo, "ctrl Z": redo, "ctrl y": redo,
  Escape: () => {
    if (drag) endDrag();
    else if (state.relabel) state.relabel = false;
    else if (state.stretch.in !== null || state.stretch.out !== null) clearStretch();
    else {
      setLoop(false);
      select(null);
    }
    showHint();
  },
  "+": () => zoomBy(2), "=": () => zoomBy(2), "-": () => zoomBy(0.5), "−": () => zoomBy(0.5),
  "0": zoomAll,
  t: () => $("theme").click(),
  "?": () => $("help").showModal(),
  "/": openQuestion,
};

const REPEATED = /^(Arrow|[,.<>{}+-]|\[|\])/; // keys that go on while they are held
const keysDown = new Map(); // place on the keyboard -> class

function keyPressed(press) {
  if (!project || document.querySelector("dialog[open]")) return;
  const on = press.target;
  const altGr = press.getModifierState("AltGraph");
  if (on.closest("input:not([type=checkbox]), select")) {
    if (press.key === "Escape" || (press.key === "Enter" && on.id === "note")) on.blur();
    return;
  }
  if (press.altKey && !altGr) return;
  if ((press.key === " " || press.key === "Enter") && on.closest("button, a, input")) {
    // Enter on the card that is selected already answers; anywhere else it presses the button.
    if (press.key === " " || !on.closest(".event[aria-current]")) return;
  }
  const ctrl = (press.ctrlKey || press.metaKey) && !altGr ? "ctrl " : "";
  const shift = press.shiftKey && press.key.startsWith("Arrow") ? "shift " : "";
  const one = ctrl ? null : project.classes[KEYS.indexOf(press.key)];
  const action = one ? () => pressClass(one.id) : keys[ctrl + shift + press.key];
  if (!action) return;
  press.preventDefault();
  if (press.repeat && !REPEATED.test(press.key)) return;
  if (one) keysDown.set(press.code, one.id);
  action();
  showHint();
}

// With Shift the same key may have another name when it comes up, so that its place counts.
function keyReleased(release) {
  releaseClass(keysDown.get(release.code));
  keysDown.delete(release.code);
}

// A page that is loaded again goes on at the same place.
function keepPlace() {
  sessionStorage.setItem("touchline-place", JSON.stringify([state.match, state.time]));
}

function findPlace() {
  const [id, time] = JSON.parse(sessionStorage.getItem("touchline-place") ?? "[]");
  if (!project.matches.some((m) => m.id === id)) return;
  showMatch(id);
  state.time = inside(time);
}

function watchButtons() {
  const clicks = {
    undo, redo, export: openExport, "save-model": saveModel, keys: () => $("help").showModal(),
    "frame-back": () => stepFrame(-1), "frame-forward": () => stepFrame(1), play: togglePlay,
    loop: toggleLoop, sound: toggleSound, full: toggleFullScreen, proxy: makeProxy,
    in: () => setStretch("in"), out: () => setStretch("out"), clear: clearStretch,
    "edit-classes": () => $("classes-dialog").showModal(),
    accept, reject, remove: removeMark, deselect: () => select(null), "export-now": exportNow,
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  document.querySelectorAll("[data-jump]").forEach((button) => {
    button.addEventListener("click", () => jumpTo(state.time + Number(button.dataset.jump)));
  });
  document.querySelectorAll("[data-nudge]").forEach((button) => {
    button.addEventListener("click", () => nudge(button.dataset.nudge, Number(button.dataset.by)));
  });
  document.querySelectorAll("[data-here]").forEach((button) => {
    button.addEventListener("click", () => putHere(button.dataset.here));
  });
  $("speed").addEventListener("change", () => {
    setSpeed();
    $("speed").blur();
  });
  $("match").addEventListener("change", () => switchMatch($("match").value));
  $("item-class").addEventListener("change", () => changeClass($("item-class").value));
  $("note").addEventListener("change", saveNote);
  $("add").addEventListener("submit", addClass);
  $("ask").addEventListener("submit", ask);
  // After a click the keys belong to the page again: Space plays, it does not press the button anew.
  document.addEventListener("click", (click) => {
    if (click.detail && !click.target.closest("dialog")) click.target.closest("button")?.blur();
  });
}

function start() {
  watchButtons();
  watchPlayer();
  watchTimeline();
  watchList();
  document.addEventListener("keydown", keyPressed);
  document.addEventListener("keyup", keyReleased);
  // A browser may keep a page that was left, and with it some of its few connections to the server.
  window.addEventListener("pagehide", () => {
    if (project) keepPlace();
    updates?.close();
    video.removeAttribute("src");
    video.load();
  });
  window.addEventListener("pageshow", (shown) => shown.persisted && location.reload());
  window.addEventListener("blur", () => [...holds.keys()].forEach(releaseClass));
  $("theme").addEventListener("click", drawSoon);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);
  connect();
}

start();
