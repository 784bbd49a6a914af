// Updates the whole page, handles keys, and starts everything.
function showTime() {
  $("time").textContent = clockTime(state.time, 1);
  $("clock").textContent = matchClock(state.time);
  $("playhead").style.left = `${percent(state.time)}%`;
}

function showCurrent() {
  document.querySelectorAll("[aria-current]").forEach((old) => old.removeAttribute("aria-current"));
  const event = state.current;
  if (!event) return;
  event.mark?.setAttribute("aria-current", "true");
  const card = event.card?.firstChild;
  if (!card) return;
  card.setAttribute("aria-current", "true");
  const list = $("list");
  if (list.scrollHeight > list.clientHeight + 1) {
    const top = event.card.offsetTop - list.offsetTop;
    const away = top - list.scrollTop;
    if (away < 0 || away + event.card.offsetHeight > list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 3;
    }
  }
}

function show() {
  const shown = shownInTime();
  showFilters();
  showMarks();
  showList(shown);
  showTruth(events.filter(passes));
  showCurrent();
}

function setLowest(value) {
  state.lowest = value === null ? null : Math.min(1, Math.max(0.01, Math.round(value * 100) / 100));
  show();
}

const nudge = (change) => setLowest(Number($("score").value) + change);

function toggleOnly() {
  state.onlyEvents = !state.onlyEvents;
  $("only").setAttribute("aria-pressed", String(state.onlyEvents));
  if (state.onlyEvents && state.playable) video.play().catch(() => {});
}

const keys = {
  j: () => step(1), n: () => step(1), k: () => step(-1), p: () => step(-1),
  " ": togglePlay,
  ArrowLeft: () => seek(state.time - 5), ArrowRight: () => seek(state.time + 5),
  ",": () => seek(state.time - 1 / data.frameRate), ".": () => seek(state.time + 1 / data.frameRate),
  "[": () => nudge(-0.05), "]": () => nudge(0.05),
  "0": () => { state.off.clear(); show(); },
  m: toggleOnly,
  f: toggleFullScreen,
  s: () => { video.muted = !video.muted; },
  "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1), "−": () => zoomBy(-1),
  t: () => $("theme").click(),
  "?": () => $("help").showModal(),
};

function pressed(press) {
  if (press.ctrlKey || press.metaKey || press.altKey || $("help").open) return;
  const on = press.target;
  if (on.closest("select, input:not([type=range])")) return;
  if (on.closest("input[type=range]") && press.key.startsWith("Arrow")) return;
  if (press.key === " " && on.closest("button, a, label, input")) return;
  const digit = /^[1-9]$/.test(press.key) && Number(press.key) <= data.labels.length;
  const action = digit ? () => toggleClass(Number(press.key) - 1) : keys[press.key];
  if (!action) return;
  press.preventDefault();
  action();
}

function watchPlayer() {
  video.addEventListener("error", cannotPlay);
  video.addEventListener("loadedmetadata", learnPlayerStart);
  video.addEventListener("loadedmetadata", () => {
    // Some browsers play the sound of a file whose video they cannot decode.
    if (!video.videoWidth) cannotPlay();
  });
  video.addEventListener("timeupdate", () => {
    if (!video.seeking) state.time = toFile(video.currentTime);
    showTime();
    skipIdle();
  });
  video.addEventListener("seeked", () => {
    state.time = toFile(video.currentTime);
    showTime();
  });
  $("file").addEventListener("change", (change) => {
    if (change.target.files.length) chooseFile(change.target.files[0]);
  });
  if (data.video.src) video.src = data.video.src;
  else cannotPlay();
}

function start() {
  buildChips();
  buildLanes();
  watchPlayer();
  watchTimeline();
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("only").addEventListener("click", toggleOnly);
  $("score").addEventListener("input", () => setLowest(Number($("score").value)));
  $("reset").addEventListener("click", () => setLowest(null));
  $("sort").addEventListener("change", () => { state.sort = $("sort").value; show(); });
  $("zoom-in").addEventListener("click", () => zoomBy(1));
  $("zoom-out").addEventListener("click", () => zoomBy(-1));
  $("keys").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", pressed);
  window.addEventListener("resize", showTicks);
  show();
  zoomBy(0);
  const linked = /^#t=([\d.]+)$/.exec(location.hash);
  if (linked) video.addEventListener("loadedmetadata", () => seek(Number(linked[1])), { once: true });
  showTime();
}

start();
