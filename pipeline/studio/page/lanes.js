// Draws the lanes. Each has one canvas as wide as the window shows, so that thousands of marks and
// hours of footage cost no more than what is seen.
const view = { left: 0, width: 1, perS: 1 }; // pixels: hidden at the left, shown, per second
const xOf = (seconds) => seconds * view.perS - view.left;
const timeOf = (x) => (x + view.left) / view.perS;
const MIN_WIDTH = 5; // pixels; spots and short intervals can still be seen and hit

let lanes = []; // class, row, canvas, colour, and what lies in it
let lanesShown = "";

function showLanes() {
  const stamp = JSON.stringify(project.classes);
  if (stamp !== lanesShown) {
    lanesShown = stamp;
    lanes = project.classes.map(laneOf);
    $("lanes").replaceChildren(...lanes.map((lane) => lane.row));
  }
  const [ours, open_, refused] = [marks(), open(), rejected()];
  for (const lane of lanes) {
    const ofLane = (item) => item.class === lane.id;
    lane.items = [...refused.filter(ofLane), ...open_.filter(ofLane), ...ours.filter(ofLane)];
    lane.count.textContent = match().marks.filter(ofLane).length;
  }
  $("wave").hidden = !waveform.levels.length;
  fitTimeline();
  drawSoon();
}

function laneOf(one) {
  const row = element("div", `lane ${hueOf(one.id)}`);
  const head = element("div", "name");
  const count = element("span", "count");
  head.append(element("span", "dot"), element("span", "label", one.name), count);
  head.title = one.name;
  const track = element("div", "track");
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  track.append(canvas);
  track.dataset.class = one.id;
  row.append(head, track);
  return { id: one.id, row, canvas, count, items: [] };
}

let drawing = 0;
function drawSoon() {
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  drawing = 0;
  if (!project) return;
  const style = getComputedStyle(document.body);
  const paint = {};
  for (const name of ["text", "soft", "line", "card", "accent"]) {
    paint[name] = style.getPropertyValue(`--${name}`).trim();
  }
  drawAxis(paint);
  drawWaveform(paint);
  lanes.forEach((lane) => drawLane(lane, paint));
  placePlayhead();
}

function cleared(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

function drawAxis(paint) {
  const { pen, width, height } = cleared($("axis").firstChild);
  const { durationS, features } = match();
  const per = tickStep(view.perS);
  pen.font = `11px ${getComputedStyle($("time")).fontFamily}`;
  for (let t = per * Math.floor(timeOf(0) / per); t <= Math.min(durationS, timeOf(width)); t += per) {
    if (t < 0) continue;
    pen.fillStyle = paint.line;
    pen.fillRect(Math.round(xOf(t)), 0, 1, height);
    pen.fillStyle = paint.soft;
    pen.fillText(clockTime(t), xOf(t) + 5, 14);
  }
  if (features.state !== "done" && features.doneS > 0) {
    pen.fillStyle = paint.accent;
    pen.fillRect(xOf(0), height - 3, features.doneS * view.perS, 3);
  }
}

function drawWaveform(paint) {
  if ($("wave").hidden) return;
  const { pen, width, height } = cleared($("wave").querySelector("canvas"));
  pen.fillStyle = paint.soft;
  for (let x = 0; x < width; x++) {
    const level = highest(waveform, x, 1) / 255;
    pen.fillRect(x, (height * (1 - level)) / 2, 1, Math.max(0.5, height * level));
  }
}

// The highest value under each group of pixels; 0 outside.
function highest({ stepS, levels }, x, pixels) {
  const first = Math.floor(timeOf(x) / stepS);
  const last = Math.max(first, Math.ceil(timeOf(x + pixels) / stepS) - 1);
  let most = 0;
  for (let k = Math.max(0, first); k <= last && k < levels.length; k++) most = Math.max(most, levels[k]);
  return most;
}

function drawLane(lane, paint) {
  const { pen, width, height } = cleared(lane.canvas);
  const colour = getComputedStyle(lane.row).getPropertyValue("--hue").trim();
  drawUndone(pen, width, height, paint);
  if (curves.levels?.[lane.id]) drawCurve(pen, width, height, curves.levels[lane.id], colour);
  const { selected, stretch, drawn } = state;
  for (const item of lane.items) {
    if (isSame(item, selected)) continue;
    if (item.kind === "proposal" && !item.accepted && !state.unlikely && state.order !== "teaches") {
      pen.globalAlpha = 0.35;
    }
    drawItem(pen, item, width, height, colour, paint);
    pen.globalAlpha = 1;
  }
  const item = shownItem();
  if (item?.class === lane.id) drawItem(pen, item, width, height, colour, paint, true);
  const hold = holds.get(lane.id);
  const time = state.time;
  if (hold) drawItem(pen, { kind: "mark", start: Math.min(hold.start, time), end: Math.max(hold.start, time) }, width, height, colour, paint);
  if (drawn?.class === lane.id) drawItem(pen, { kind: "mark", ...drawn }, width, height, colour, paint);
  if (stretch.in !== null || stretch.out !== null) {
    const [a, b] = [stretch.in ?? stretch.out, stretch.out ?? Math.max(time, stretch.in)];
    pen.globalAlpha = 0.22;
    pen.fillStyle = paint.accent;
    pen.fillRect(xOf(a), 0, Math.max(1, (b - a) * view.perS), height);
    pen.globalAlpha = 1;
  }
}

// Where there are no features yet.
function drawUndone(pen, width, height, paint) {
  const { features } = match();
  if (features.state === "done") return;
  const from = Math.max(0, xOf(features.doneS));
  pen.save();
  pen.beginPath();
  pen.rect(from, 0, Math.max(0, width - from), height);
  pen.clip();
  pen.strokeStyle = paint.line;
  pen.lineWidth = 2;
  pen.beginPath();
  const shift = view.left % 12;
  for (let x = -height - shift; x < width + 12; x += 12) {
    pen.moveTo(x, height);
    pen.lineTo(x + height, 0);
  }
  pen.stroke();
  pen.restore();
}

function drawCurve(pen, width, height, levels, colour) {
  const values = { stepS: curves.stepS, levels };
  pen.beginPath();
  pen.moveTo(0, height);
  const wide = curves.stepS * view.perS;
  if (wide <= 2) {
    for (let x = 0; x < width; x += 1) pen.lineTo(x, height - ((height - 2) * highest(values, x, 1)) / 255);
  } else {
    const first = Math.max(0, Math.floor(timeOf(0) / curves.stepS) - 1);
    const last = Math.min(levels.length - 1, Math.ceil(timeOf(width) / curves.stepS) + 1);
    for (let k = first; k <= last; k++) {
      pen.lineTo(xOf((k + 0.5) * curves.stepS), height - ((height - 2) * levels[k]) / 255);
    }
  }
  pen.lineTo(Math.min(width, xOf(match().durationS)), height);
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.16;
  pen.fill();
  pen.globalAlpha = 0.6;
  pen.stroke();
  pen.globalAlpha = 1;
}

// Where an item is drawn, in pixels. A spot lies about its time.
function boxOf(item) {
  const [a, b] = [xOf(item.start), xOf(item.end)];
  const width = Math.max(MIN_WIDTH, b - a);
  return { left: b - a < MIN_WIDTH ? (a + b - width) / 2 : a, width };
}

function drawItem(pen, item, width, height, colour, paint, current = false) {
  const box = boxOf(item);
  if (box.left > width || box.left + box.width < 0) return;
  const [top, tall] = [4.5, height - 9];
  pen.fillStyle = colour;
  pen.strokeStyle = item.kind === "rejected" ? paint.soft : colour;
  pen.lineWidth = 1.5;
  if (item.kind === "mark") {
    pen.fillRect(box.left, top, box.width, tall);
  } else {
    pen.fillStyle = paint.card;
    pen.save();
    pen.globalAlpha *= 0.75;
    pen.fillRect(box.left, top, box.width, tall);
    pen.restore();
    pen.strokeRect(box.left + 0.75, top, box.width - 1.5, tall);
  }
  if (item.kind === "rejected") {
    const wide = Math.max(8, box.width);
    const x = box.left + (box.width - wide) / 2;
    pen.beginPath();
    pen.moveTo(x, top);
    pen.lineTo(x + wide, top + tall);
    pen.moveTo(x + wide, top);
    pen.lineTo(x, top + tall);
    pen.stroke();
  }
  if (current) {
    pen.strokeStyle = paint.text;
    pen.lineWidth = 2;
    pen.strokeRect(box.left - 2, top - 2.5, box.width + 4, tall + 5);
  }
}

function placePlayhead() {
  $("playhead").style.transform = `translateX(${xOf(state.time)}px)`;
}
