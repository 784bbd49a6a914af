// The timeline under the mouse and the keys: zoom, scrolling, hits, drags, the picture under the pointer.
const MAX_PER_S = 400; // pixels; a frame of 25 a second is then 16 wide
const DRAG_FROM = 4; // pixels
const BORDER = 6; // pixels about a border in which it can be taken

let drag = null;
let lastPan = -Infinity;

const fitPerS = () => view.width / Math.max(match().durationS, 0.001);

// The width of the window may have changed, or the match. A timeline that showed all goes on so.
let fitted = true;
function fitTimeline() {
  const scroller = $("scroller");
  $("stuck").style.width = `${scroller.clientWidth}px`;
  view.width = Math.max(1, $("axis").clientWidth);
  if (fitted || view.perS < fitPerS()) view.perS = fitPerS();
  layWidth();
}

function layWidth() {
  const names = $("stuck").clientWidth - view.width;
  $("wide").style.width = `${names + Math.floor(match().durationS * view.perS)}px`;
  view.left = $("scroller").scrollLeft;
  $("zoom-out").disabled = $("zoom-all").disabled = fitted;
  $("zoom-in").disabled = view.perS >= MAX_PER_S;
  drawSoon();
}

// The time under `x` stays where it is.
function zoomTo(perS, x) {
  const time = timeOf(x);
  view.perS = Math.min(Math.max(perS, fitPerS()), Math.max(MAX_PER_S, fitPerS()));
  fitted = view.perS <= fitPerS() * 1.001;
  layWidth();
  $("scroller").scrollLeft = time * view.perS - x;
  view.left = $("scroller").scrollLeft;
  drawSoon();
}

function zoomBy(factor) {
  const x = xOf(state.time);
  const seen = x >= 0 && x <= view.width;
  if (!seen) centre(state.time);
  zoomTo(view.perS * factor, seen ? x : xOf(state.time));
}

function zoomAll() {
  zoomTo(0, 0);
}

function centre(seconds) {
  $("scroller").scrollLeft = seconds * view.perS - view.width / 2;
  view.left = $("scroller").scrollLeft;
  drawSoon();
}

function keepPlayheadInView() {
  const x = xOf(state.time);
  if ((x >= 0 && x <= view.width) || drag) return;
  if (performance.now() - lastPan < 3000) return;
  $("scroller").scrollLeft = state.time * view.perS - view.width * 0.1;
  view.left = $("scroller").scrollLeft;
  drawSoon();
}

function showInTimeline(item) {
  const { left, width } = boxOf(item);
  if (left < 0 || left + width > view.width) centre((item.start + item.end) / 2);
}

// The item under x, and which part of it. The selected one comes first, then the shortest.
function hit(lane, x) {
  const near = (item) => {
    const box = boxOf(item);
    return x >= box.left - 3 && x <= box.left + box.width + 3;
  };
  const current = shownItem();
  const mine = current?.class === lane.id ? [current] : [];
  const found = [...mine, ...lane.items]
    .filter((item) => near(item) || (isSame(item, current) && borderAt(item, x)))
    .sort((a, b) => isSame(b, current) - isSame(a, current) || a.end - a.start - (b.end - b.start))[0];
  return found && { item: found, side: borderAt(found, x) };
}

function borderAt(item, x) {
  if (item.kind === "rejected" || item.end <= item.start) return null;
  const { left, width } = boxOf(item);
  const reach = Math.min(BORDER, width / 3);
  if (x >= left - BORDER && x <= left + reach) return "start";
  if (x <= left + width + BORDER && x >= left + width - reach) return "end";
  return null;
}

const laneAt = (target) => lanes.find((lane) => lane.id === target.closest?.(".track")?.dataset.class);
const xIn = (pointer) => pointer.clientX - $("axis").getBoundingClientRect().left;

function pointerDown(down) {
  const track = down.target.closest(".track");
  if (!track || down.button !== 0) return;
  const lane = laneAt(track);
  const x = xIn(down);
  if (!lane) {
    if (track.id !== "axis") return;
    drag = { kind: "scrub", x, moved: true };
    jumpTo(timeOf(x));
  } else if (down.pointerType === "touch") {
    return; // Fingers scroll; a tap is a click.
  } else {
    const found = hit(lane, x);
    drag = { kind: found ? (found.side ?? "body") : "new", item: found?.item, lane, x, moved: false };
    if (found?.item.kind === "rejected") drag.kind = "none";
  }
  track.setPointerCapture(down.pointerId);
}

function pointerMove(move) {
  if (!drag) {
    showHover(move);
    return;
  }
  const x = xIn(move);
  if (!drag.moved) {
    if (Math.abs(x - drag.x) < DRAG_FROM) return;
    drag.moved = true;
    if (drag.item && !isSame(drag.item, state.selected)) select(drag.item, { stay: true });
    video.pause();
    drag.from = shownItem();
  }
  const time = inside(timeOf(x));
  const by = (x - drag.x) / view.perS;
  if (drag.kind === "scrub") jumpTo(time);
  else if (drag.kind === "new") {
    const [a, b] = [inside(timeOf(drag.x)), time].sort((p, q) => p - q);
    state.drawn = { class: drag.lane.id, start: a, end: b };
    scrub(time);
  } else if (drag.kind === "body") {
    const { start, end } = drag.from;
    const shift = Math.min(Math.max(by, -start), match().durationS - end);
    draft({ start: start + shift, end: end + shift });
    scrub(start + shift);
  } else if (drag.kind === "start" || drag.kind === "end") {
    const { start, end } = drag.from;
    const other = drag.kind === "start" ? end : start;
    const at = drag.from[drag.kind] + by;
    draft({ [drag.kind]: drag.kind === "start" ? Math.min(at, other) : Math.max(at, other) });
    scrub(shownItem()[drag.kind]);
  }
  showHover(move);
  drawSoon();
}

// The player shows where the pointer is, as quickly as it can.
function scrub(time) {
  if (!video.seeking) seek(time);
}

function pointerUp(up) {
  const ended = drag;
  drag = null;
  if (!ended) return;
  if (!ended.moved) tap(ended.lane, ended.x);
  else if (ended.kind === "new") {
    const { class: id, start, end } = state.drawn;
    markNow(snap(start), snap(end), id);
    state.drawn = null;
  } else if (ended.kind !== "scrub" && state.selected?.kind === "mark") saveDraft();
  showHover(up);
  drawSoon();
}

const snap = (seconds) => Math.round(1e6 * seconds) / 1e6;

function tap(lane, x) {
  const found = hit(lane, x);
  if (found) select(found.item);
  else jumpTo(timeOf(x));
}

function endDrag() {
  drag = null;
  state.drawn = null;
  state.draft = null;
  showItem();
  drawSoon();
}

function showHover(pointer) {
  const hover = $("hover");
  const track = pointer.target.closest?.(".track");
  hover.hidden = !track || pointer.pointerType === "touch";
  if (hover.hidden) return;
  const lane = laneAt(track);
  const x = xIn(pointer);
  const found = lane && hit(lane, x);
  track.style.cursor = found?.side ? "ew-resize" : found ? "pointer" : "";
  const time = inside(timeOf(x));
  let text = clockTime(time, view.perS > 20 ? 2 : 0);
  if (lane && curves.levels?.[lane.id]) text += ` · ${(highest({ ...curves, levels: curves.levels[lane.id] }, x, 1) / 255).toFixed(2)}`;
  $("hover-text").textContent = text;
  const half = 94;
  hover.style.left = `${Math.min(Math.max(pointer.clientX, half), window.innerWidth - half)}px`;
  hover.style.top = `${track.getBoundingClientRect().top - 6}px`;
  showThumbnail(time);
}

// One picture at a time; the latest wish is next.
let thumbnailBusy = false;
let thumbnailNext = null;
function showThumbnail(time) {
  if (match().problem) return;
  const path = pictureAt(time, 176, true);
  if (thumbnailBusy) {
    thumbnailNext = path;
    return;
  }
  thumbnailBusy = true;
  thumbnailNext = null;
  const image = $("hover-picture");
  image.hidden = false;
  image.onload = image.onerror = (event) => {
    image.hidden = event.type === "error";
    thumbnailBusy = false;
    const next = thumbnailNext;
    if (next && next !== path && !$("hover").hidden) {
      thumbnailBusy = true;
      thumbnailNext = null;
      image.src = next;
    }
  };
  image.src = path;
}

function watchTimeline() {
  const scroller = $("scroller");
  scroller.addEventListener("pointerdown", pointerDown);
  scroller.addEventListener("pointermove", pointerMove);
  scroller.addEventListener("pointerup", pointerUp);
  scroller.addEventListener("pointercancel", endDrag);
  scroller.addEventListener("pointerleave", () => ($("hover").hidden = true));
  scroller.addEventListener("click", (click) => {
    const lane = laneAt(click.target);
    if (lane && click.pointerType === "touch") tap(lane, xIn(click));
  });
  scroller.addEventListener("scroll", () => {
    view.left = scroller.scrollLeft;
    drawSoon();
  });
  scroller.addEventListener(
    "wheel",
    (wheel) => {
      lastPan = performance.now();
      if (!wheel.ctrlKey && !wheel.metaKey) return;
      wheel.preventDefault();
      zoomTo(view.perS * Math.exp(-wheel.deltaY / 300), xIn(wheel));
    },
    { passive: false },
  );
  scroller.addEventListener("touchmove", () => (lastPan = performance.now()), { passive: true });
  new ResizeObserver(() => {
    if (project) fitTimeline();
  }).observe(scroller);
  $("zoom-in").addEventListener("click", () => zoomBy(2));
  $("zoom-out").addEventListener("click", () => zoomBy(0.5));
  $("zoom-all").addEventListener("click", zoomAll);
}
