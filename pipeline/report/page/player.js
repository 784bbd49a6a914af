// The player: goes to times and events, and says what to do if the footage does not play.
const toPlayer = (seconds) => Math.max(0, seconds - data.video.offsetS) + state.playerStartS;
const toFile = (seconds) => seconds - state.playerStartS + data.video.offsetS;

function learnPlayerStart() {
  state.playerStartS = playerClockStart(video, data.video.startS);
  if (state.time > 0) seek(state.time);
}

function seek(seconds) {
  state.time = Math.min(Math.max(0, seconds), data.durationS);
  if (state.playable && video.readyState > 0) video.currentTime = toPlayer(state.time);
  showTime();
  keepPlayheadInView();
}

function goTo(event) {
  state.current = event;
  seek(event.start);
  showCurrent();
  $("say").textContent =
    `${data.labels[event.label]} at ${clockTime(event.start)}, score ${event.score.toFixed(2)}`;
  try {
    history.replaceState(null, "", `#t=${event.start}`);
  } catch {
    // Some browsers do not allow this for pages opened from disk.
  }
}

function step(direction) {
  const shown = shownInTime();
  if (!shown.length) return;
  const at = shown.indexOf(state.current);
  let next;
  if (at >= 0 && Math.abs(state.time - state.current.start) < state.current.end - state.current.start + 3) {
    next = at + direction;
  } else if (direction > 0) {
    next = shown.findIndex((event) => event.start > state.time + 0.01);
    if (next < 0) next = shown.length;
  } else {
    next = shown.filter((event) => event.start < state.time - 0.01).length - 1;
  }
  if (next >= 0 && next < shown.length) goTo(shown[next]);
}

function togglePlay() {
  if (!state.playable) return;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (state.playable) video.requestFullscreen?.().catch(() => {});
}

// "Play only events": jump from the end of one event to the next.
function skipIdle() {
  if (!state.onlyEvents || video.paused) return;
  const shown = shownInTime();
  const inside = shown.some((e) => e.start - 2.5 <= state.time && state.time < e.end + 1.5);
  if (inside || !shown.length) return;
  const next = shown.find((event) => event.start > state.time);
  if (next) {
    state.current = next;
    seek(next.start - 2);
    showCurrent();
  } else {
    video.pause();
  }
}

function cannotPlay() {
  if (!state.playable) return;
  state.playable = false;
  const { played, kind, name, path } = data.video;
  $("notice-title").textContent = played ? "The footage does not play" : "Browsers cannot play this file";
  $("notice-text").textContent = played
    ? `${name} is not at ${path} (relative to this page), or this browser cannot play it. ` +
      "If the file has moved, choose it here. Everything else on this page works without it."
    : `${name} is ${kind}, which browsers cannot play. Everything else on this page works. ` +
      "You can choose a copy of the match in another format.";
  $("notice-hint").textContent =
    "This command makes a small copy that every browser plays: touchline report events.json --proxy";
  $("notice").hidden = false;
  video.removeAttribute("controls");
}

function chooseFile(file) {
  state.playable = true;
  $("notice").hidden = true;
  video.setAttribute("controls", "");
  video.src = URL.createObjectURL(file);
}
