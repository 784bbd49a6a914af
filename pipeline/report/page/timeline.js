// The timeline: one lane per class with its scores, events and labels.
const lanes = [];
const percent = (seconds) => (100 * seconds) / Math.max(data.durationS, 0.001);

function place(made, start, end) {
  made.style.left = `${percent(start)}%`;
  made.style.width = `${percent(end - start)}%`;
  return made;
}

function curvePath(encoded) {
  const levels = levelsOf(encoded);
  const { stepS } = data.curves;
  const points = Array.from(levels, (level, k) => {
    const x = Math.min(1000, (1000 * (k + 0.5) * stepS) / data.durationS);
    return `${x.toFixed(2)},${(100 - level / 2.55).toFixed(1)}`;
  });
  const right = Math.min(1000, (1000 * levels.length * stepS) / data.durationS);
  return `M0,100L${points.join("L")}L${right.toFixed(2)},100Z`;
}

function buildLanes() {
  const axis = element("div", "axis");
  const ticks = element("div", "track");
  ticks.id = "ticks";
  axis.append(element("div", "name"), ticks);
  $("lanes").append(axis);
  data.labels.forEach((name, label) => {
    const row = element("div", `lane ${hue(label)}`);
    const head = element("div", "name");
    const count = element("span", "count");
    head.append(element("span", "dot"), element("span", "", name), count);
    head.title = name;
    const track = element("div", "track");
    if (data.curves) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 1000 100");
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", curvePath(data.curves.values[label]));
      svg.append(path);
      track.append(svg);
    }
    data.damaged.forEach(([a, b]) => track.append(place(element("div", "damaged"), a, b)));
    const limit = element("div", "limit");
    const marks = element("div");
    track.append(limit, marks);
    data.truth
      .filter((event) => event.label === label)
      .forEach((event) => {
        track.append(place(element("div", "true"), event.start, event.end));
      });
    row.append(head, track);
    $("lanes").append(row);
    lanes.push({ row, track, count, limit, marks });
  });
  $("legend-curve").hidden = !data.curves;
  $("legend-damage").hidden = !data.damaged.length;
}

function markOf(event) {
  if (event.mark) return event.mark;
  const mark = place(element("button", "mark"), event.start, event.end);
  // Keyboards and screen readers use the list. Here they would meet each event a second time.
  mark.tabIndex = -1;
  mark.setAttribute("aria-hidden", "true");
  const title = [data.labels[event.label], clockTime(event.start), event.score.toFixed(2)];
  mark.title = title.join(" · ");
  mark.addEventListener("click", (click) => {
    click.stopPropagation();
    goTo(event);
  });
  event.mark = mark;
  return mark;
}

function showMarks() {
  lanes.forEach((lane, label) => {
    const here = events.filter((event) => event.label === label && passes(event));
    lane.marks.replaceChildren(...here.map(markOf));
  });
}

function showTicks() {
  const width = $("ticks").clientWidth || 1;
  const per = tickStep(width / data.durationS);
  const ticks = [];
  for (let t = 0; t < data.durationS; t += per) {
    const tick = element("span", "tick", clockTime(t));
    tick.style.left = `${percent(t)}%`;
    ticks.push(tick);
  }
  $("ticks").replaceChildren(...ticks);
}

function zoomBy(change) {
  const scroller = $("scroller");
  const middle = state.time / Math.max(data.durationS, 0.001);
  state.zoom = Math.min(ZOOMS.length - 1, Math.max(0, state.zoom + change));
  $("lanes").style.width = `${100 * ZOOMS[state.zoom]}%`;
  $("zoom-out").disabled = state.zoom === 0;
  $("zoom-in").disabled = state.zoom === ZOOMS.length - 1;
  showTicks();
  scroller.scrollLeft = middle * scroller.scrollWidth - scroller.clientWidth / 2;
}

function keepPlayheadInView() {
  const scroller = $("scroller");
  const box = scroller.getBoundingClientRect();
  // On a wide page the class names cover the left part of the lanes.
  const left = box.left + ($("ticks").previousSibling.offsetWidth || 0);
  const at = $("playhead").getBoundingClientRect().left;
  if (at < left || at > box.right) scroller.scrollLeft += at - (left + box.right) / 2;
}

function timeAt(track, clientX) {
  const box = track.getBoundingClientRect();
  return ((clientX - box.left) / box.width) * data.durationS;
}

function watchTimeline() {
  const scroller = $("scroller");
  const hover = $("hover");
  scroller.addEventListener("click", (click) => {
    const track = click.target.closest(".track");
    if (track) seek(timeAt(track, click.clientX));
  });
  scroller.addEventListener("pointermove", (move) => {
    const track = move.target.closest(".track");
    hover.hidden = !track || move.pointerType === "touch";
    if (hover.hidden) return;
    const at = timeAt(track, move.clientX);
    const label = lanes.findIndex((lane) => lane.track === track);
    let text = clockTime(at, 1);
    if (data.curves && label >= 0) {
      const levels = atob(data.curves.values[label]);
      const k = Math.min(levels.length - 1, Math.max(0, Math.floor(at / data.curves.stepS)));
      text += ` · ${(levels.charCodeAt(k) / 255).toFixed(2)}`;
    }
    hover.textContent = text;
    const box = scroller.getBoundingClientRect();
    const trackTop = track.getBoundingClientRect().top - box.top;
    hover.style.left = `${move.clientX - box.left + scroller.scrollLeft}px`;
    hover.style.top = `${Math.max(26, trackTop + 8)}px`;
  });
  scroller.addEventListener("pointerleave", () => {
    hover.hidden = true;
  });
}
