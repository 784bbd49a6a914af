// The player: goes to times, plays stretches again and again, steps through frames.
const LEAD_S = 1; // shown before and after what is repeated
const NEAR_S = 0.5; // a frame so near a time is the one that is shown at it

const toPlayer = (seconds) => Math.max(0, seconds - match().media.offsetS) + state.playerStartS;
const toFile = (seconds) => seconds - state.playerStartS + match().media.offsetS;

// Times of frames are rounded in many files. A millisecond later the same frame is shown for sure.
const INTO_FRAME_S = 0.001;

function seek(seconds) {
  state.time = inside(seconds);
  state.frameS = null;
  if (state.playable && video.readyState > 0) video.currentTime = toPlayer(state.time) + INTO_FRAME_S;
  showTime();
  keepPlayheadInView();
  showStill();
}

// A jump out of what is repeated ends the repetition.
function jumpTo(seconds) {
  const range = loopRange();
  if (state.loop && range && (seconds < range.start - 0.5 || seconds > range.end)) setLoop(false);
  seek(seconds);
}

// The time of the frame that is seen.
function now() {
  const seen = state.frameS !== null && !video.seeking && Math.abs(state.frameS - state.time) < NEAR_S;
  return Math.round(1e6 * (seen ? state.frameS : state.time)) / 1e6;
}

function stepFrame(direction) {
  video.pause();
  // Half a frame before the start of this frame is the one before, whatever its length.
  jumpTo(now() + (direction > 0 ? 1.25 : -0.5) * frameS());
}

function togglePlay() {
  if (!state.playable) return;
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function changeSpeed(change) {
  const options = $("speed").options;
  $("speed").selectedIndex = Math.min(options.length - 1, Math.max(0, $("speed").selectedIndex + change));
  setSpeed();
}

function setSpeed() {
  video.playbackRate = Number($("speed").value);
  say(`speed ${$("speed").value}`);
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("stage").requestFullscreen?.().catch(() => {});
}

function loopRange() {
  if (state.stretch.in !== null && state.stretch.out !== null) {
    return { start: state.stretch.in, end: state.stretch.out };
  }
  const item = shownItem();
  return item && { start: inside(item.start - LEAD_S), end: inside(item.end + LEAD_S) };
}

function setLoop(on) {
  state.loop = on;
  $("loop").setAttribute("aria-pressed", String(on));
}

function toggleLoop() {
  setLoop(!state.loop);
  const range = loopRange();
  if (!state.loop) return;
  if (!range) {
    say("select a mark first, or set in and out");
    return;
  }
  seek(range.start);
  if (state.playable) video.play().catch(() => {});
}

// Runs for each picture of the screen while the player plays.
function tick() {
  if (video.paused) return;
  if (!video.seeking) {
    state.time = toFile(video.currentTime);
    const range = loopRange();
    if (state.loop && range && (state.time >= range.end || video.ended)) seek(range.start);
    showTime();
    keepPlayheadInView();
  }
  requestAnimationFrame(tick);
}

function watchFrames() {
  const seen = (_, frame) => {
    if (state.match) frameSeen(inside(toFile(frame.mediaTime)));
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback?.(seen);
}

// A frame from before the last jump may come late: it is far from the time asked for.
function frameSeen(time) {
  if (Math.abs(time - state.time) >= NEAR_S) return;
  state.frameS = time;
  if (!video.paused || video.seeking) return;
  state.time = time;
  showTime();
}

function showTime() {
  const { durationS } = match();
  $("time").textContent = clockTime(state.time, 2);
  $("axis").setAttribute("aria-valuenow", state.time.toFixed(1));
  $("axis").setAttribute("aria-valuemax", durationS.toFixed(1));
  $("axis").setAttribute("aria-valuetext", clockTime(state.time));
  placePlayhead();
  growHeld();
}

// The footage that the video element has, to see when it is another one.
let loaded = "";
function loadFootage() {
  const { media, problem } = match();
  const wanted = problem || !media.played ? "" : media.src;
  if (`${state.match} ${wanted}` !== loaded) {
    loaded = `${state.match} ${wanted}`;
    state.playable = false;
    state.frameS = null;
    state.playerStartS = 0;
    if (wanted) {
      state.playable = true;
      video.src = wanted;
      video.load();
    } else {
      video.removeAttribute("src");
      video.load();
    }
  }
  showUnplayable();
  showStill();
}

// Without a server nothing plays; that says nothing about the footage.
function cannotPlay() {
  setTimeout(() => {
    if (!connected || !video.getAttribute("src") || (video.videoWidth && !video.error)) return;
    state.playable = false;
    showUnplayable();
    showStill();
  }, 500);
}

function reloadFootage() {
  if (!video.error) return;
  loaded = "";
  loadFootage();
}

function showUnplayable() {
  const { media, problem, proxy, name } = match();
  const failed = !state.playable && media.played;
  const running = proxy.state === "running";
  $("unplayable").hidden = state.playable && !problem && !running;
  $("proxy").hidden = Boolean(problem) || running || state.playable;
  $("proxy-bar").hidden = !running;
  if (proxy.done) $("proxy-bar").value = proxy.done;
  else $("proxy-bar").removeAttribute("value"); // It moves, as nothing is known yet.
  let text = `Browsers cannot play ${name} (${media.kind}). You can mark on single pictures, or make a copy that plays.`;
  if (failed) text = `This browser cannot play ${name} (${media.kind}). You can mark on single pictures, or make a copy that plays.`;
  if (proxy.state === "failed") text = `The copy of ${name} could not be made. ${proxy.problem}`;
  if (running) {
    const share = proxy.done ? `: ${Math.floor(100 * proxy.done)} %` : "";
    text = `Touchline makes a copy of ${name} that plays${share}.`;
  }
  if (problem) text = problem;
  if ($("unplayable-text").textContent !== text) $("unplayable-text").textContent = text;
  for (const id of ["play", "speed", "loop", "sound"]) $(id).disabled = !state.playable;
}

async function makeProxy() {
  try {
    await request(`/api/matches/${state.match}/proxy`, {});
    await refresh();
  } catch (error) {
    notice(`The copy could not be made. ${error.message}`);
  }
}

const pictureAt = (seconds, width, near) =>
  `/api/matches/${state.match}/picture?t=${seconds.toFixed(3)}&w=${width}${near ? "&near=1" : ""}`;

// Without a player the page shows the picture at this time.
function showStill() {
  const still = $("still");
  still.hidden = state.playable || Boolean(match().problem);
  video.hidden = !still.hidden;
  clearTimeout(showStill.timer);
  if (!still.hidden) {
    showStill.timer = setTimeout(() => {
      still.src = pictureAt(state.time, 960, false);
    }, 60);
  }
}

function watchPlayer() {
  video.addEventListener("error", cannotPlay);
  video.addEventListener("loadedmetadata", () => {
    // Some browsers play the sound of a file whose pictures they cannot decode.
    if (!video.videoWidth) return cannotPlay();
    state.playerStartS = playerClockStart(video, match().media.startS);
    setSpeed();
    return seek(state.time);
  });
  video.addEventListener("play", () => {
    showPlaying();
    tick();
  });
  video.addEventListener("pause", showPlaying);
  video.addEventListener("seeked", () => {
    if (!video.paused) state.time = toFile(video.currentTime);
  });
  video.addEventListener("ended", () => {
    if (!state.loop) return;
    seek(loopRange()?.start ?? 0);
    video.play().catch(() => {});
  });
  $("screen").addEventListener("click", togglePlay);
  watchFrames();
}

function showPlaying() {
  $("play-shape").setAttribute("d", video.paused ? "M5 3v14l12-7z" : "M4 3h4v14H4zM12 3h4v14h-4z");
  $("play-text").textContent = video.paused ? "Play" : "Pause";
}

function toggleSound() {
  video.muted = !video.muted;
  $("sound").setAttribute("aria-pressed", String(video.muted));
}
