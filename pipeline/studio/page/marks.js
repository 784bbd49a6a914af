// Marking: spots and intervals, and what is changed about them afterwards.
const HOLD_S = 0.35; // a key that is held for longer marks an interval
const holds = new Map(); // class id -> where and when its key went down

function markNow(start, end, id) {
  if (match().problem) {
    notice(`Not marked: there is no picture. ${match().problem}`);
    return null;
  }
  const text = `the mark ${describe({ class: id, start, end })}`;
  const body = { do: "mark", match: state.match, class: id, start, end, note: "" };
  return act(body, text).then((answer) => {
    if (!answer) return;
    select(marks().find((m) => m.id === answer.id) ?? null, { stay: true });
    say(`marked ${describe({ class: id, start, end })}`);
  });
}

function pressClass(id) {
  if (state.relabel) {
    state.relabel = false;
    changeClass(id);
  } else if (state.stretch.in !== null) {
    const end = state.stretch.out ?? now();
    const [a, b] = [state.stretch.in, end].sort((x, y) => x - y);
    clearStretch();
    markNow(a, b, id);
  } else if (!holds.has(id)) {
    holds.set(id, { start: now(), since: performance.now() });
    showHeld();
  }
}

function releaseClass(id) {
  const hold = holds.get(id);
  if (!hold) return;
  holds.delete(id);
  showHeld();
  const end = now();
  const long = performance.now() - hold.since >= 1000 * HOLD_S;
  const [a, b] = [hold.start, end].sort((x, y) => x - y);
  if (long && b - a > 1.5 * frameS()) markNow(a, b, id);
  else markNow(hold.start, hold.start, id);
}

function showHeld() {
  document.querySelectorAll(".class").forEach((button) => {
    button.classList.toggle("held", holds.has(button.dataset.class));
  });
  drawSoon();
}

// The interval of a key that is down grows with the player.
function growHeld() {
  if (holds.size || (state.stretch.in !== null && state.stretch.out === null)) drawSoon();
}

function setStretch(side) {
  const { stretch } = state;
  stretch[side] = now();
  if (side === "in" && stretch.out !== null && stretch.out <= stretch.in) stretch.out = null;
  if (side === "out" && stretch.in !== null && stretch.in >= stretch.out) stretch.in = null;
  showStretch();
}

function clearStretch() {
  state.stretch = { in: null, out: null };
  showStretch();
}

function showStretch() {
  const { stretch } = state;
  const from = stretch.in === null ? "" : `from ${clockTime(stretch.in, 1)}`;
  const to = stretch.out === null ? "" : ` to ${clockTime(stretch.out, 1)}`;
  $("stretch-text").textContent = from || to ? `${from}${to}: press the class` : "";
  $("clear").hidden = !(from || to);
  $("in").setAttribute("aria-pressed", String(stretch.in !== null));
  $("out").setAttribute("aria-pressed", String(stretch.out !== null));
  if (from || to) say($("stretch-text").textContent);
  drawSoon();
}

// Selects one; the player goes there unless it shall stay. Proposals are repeated.
function select(item, { stay = false } = {}) {
  saveDraft();
  state.selected = item;
  state.relabel = false;
  showItem();
  showCurrent();
  drawSoon();
  if (!item || stay) return;
  if (item.kind === "proposal" && state.playable) {
    setLoop(true);
    seek(item.start - LEAD_S);
    video.play().catch(() => {});
  } else {
    setLoop(false);
    video.pause();
    seek(item.start);
  }
  showInTimeline(item);
  const score = item.score === undefined ? "" : `, score ${item.score.toFixed(2)}`;
  say(`${describe(item)}${score}`);
}

// Changes are drawn at once. Those of marks are saved when no more come for a moment, those of
// proposals when they are accepted.
function draft(changes) {
  const item = shownItem();
  if (!item || item.kind === "rejected") return;
  const next = { class: item.class, start: item.start, end: item.end, ...changes };
  next.start = Math.round(1e6 * inside(next.start)) / 1e6;
  next.end = Math.round(1e6 * inside(next.end)) / 1e6;
  if (next.end < next.start) return;
  state.draft = next;
  showItem();
  drawSoon();
  clearTimeout(draft.timer);
  if (item.kind === "mark") draft.timer = setTimeout(saveDraft, 400);
}

function saveDraft() {
  clearTimeout(draft.timer);
  const { selected, draft: changed } = state;
  state.draft = null;
  if (!changed || selected?.kind !== "mark") return;
  const body = { do: "edit_mark", mark: selected.id };
  for (const field of ["class", "start", "end"]) {
    if (changed[field] !== selected[field]) body[field] = changed[field];
  }
  // Until the answer comes the page goes on with what was asked for.
  Object.assign(selected, changed);
  if (Object.keys(body).length > 2) act(body, `the change to ${describe(selected)}`);
}

function nudge(side, frames) {
  const item = shownItem();
  if (!item || item.kind === "rejected") return;
  draft({ [side]: item[side] + frames * frameS() });
  seek(shownItem()[side]);
}

function putHere(side) {
  if (shownItem()) draft({ [side]: now() });
}

function changeClass(id) {
  const item = shownItem();
  if (!item || item.kind === "rejected") return;
  draft({ class: id });
  if (item.kind === "mark") saveDraft();
  showItem();
  say(`class ${nameOf(id)}`);
}

function askForClass() {
  if (!state.selected || state.selected.kind === "rejected") return;
  state.relabel = true;
  say("press the key of the right class");
  showHint();
}

function saveNote() {
  const item = state.selected;
  const note = $("note").value;
  if (item?.kind !== "mark" || note === item.note) return;
  item.note = note;
  act({ do: "edit_mark", mark: item.id, note }, `the note "${note}" to ${describe(item)}`);
}

function accept() {
  const item = shownItem();
  if (!item || item.kind === "mark") return;
  const before = state.selected;
  const body = { do: "accept", match: state.match, class: item.class, start: item.start, end: item.end };
  if (item.peak !== undefined) body.peak = item.peak;
  if (item.score !== undefined) body.score = item.score;
  if (["class", "start", "end"].some((field) => item[field] !== before[field])) {
    body.proposed = { class: before.class, start: before.start, end: before.end };
  }
  answer(before, body, `accepting ${describe(item)}`);
}

function reject() {
  const item = state.selected;
  if (item?.kind !== "proposal") return;
  const { class: id, start, end, score } = item;
  const body = { do: "reject", match: state.match, class: id, start, end, score };
  answer(item, body, `rejecting ${describe(item)}`);
}

// The next one is selected at once. If the server refuses the answer, the proposal comes back.
function answer(item, body, text) {
  const next = nextAfter(item);
  state.draft = null;
  if (item.kind === "proposal") state.answered.add(proposalKey(item));
  select(next);
  showList();
  act(body, text).then((saved) => {
    if (saved || waiting.some((one) => one.body === body)) return;
    state.answered.delete(proposalKey(item));
    showList();
  });
}

function removeMark() {
  const item = state.selected;
  if (item?.kind !== "mark") return;
  state.draft = null;
  const next = state.list === "marks" ? nextAfter(item) : null;
  act({ do: "remove_mark", mark: item.id }, `deleting ${describe(item)}`);
  say(`deleted ${describe(item)}`);
  select(next, { stay: true });
}

const refuse = () => (state.selected?.kind === "mark" ? removeMark() : reject());

function showItem() {
  const item = shownItem();
  $("item").hidden = !item;
  if (!item) return;
  const kinds = { mark: "Mark", proposal: "Proposal", rejected: "Rejected" };
  const source = { proposal: ", accepted from a proposal", labels: ", from a label file" };
  const score = item.score === undefined ? "" : `, score ${item.score.toFixed(2)}`;
  $("item-title").textContent = `${kinds[item.kind]}${source[item.source] ?? ""}${score}`;
  fillClasses($("item-class"), item.class);
  $("item-start").textContent = clockTime(item.start, 2);
  $("item-end").textContent = item.end > item.start ? clockTime(item.end, 2) : "spot";
  const fixed = item.kind === "rejected";
  $("item-class").disabled = fixed;
  document.querySelectorAll("[data-nudge], [data-here]").forEach((b) => (b.disabled = fixed));
  $("note-field").hidden = item.kind !== "mark";
  if (document.activeElement !== $("note")) $("note").value = item.note ?? "";
  $("accept").hidden = item.kind === "mark";
  $("accept").firstChild.textContent = fixed ? "Accept after all " : "Accept ";
  $("reject").hidden = item.kind !== "proposal";
  $("remove").hidden = item.kind !== "mark";
}
