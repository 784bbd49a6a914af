// The list at the side: proposals to answer, marks, and what was rejected.
const AT_ONCE = 40; // cards made at a time; more come as the list is scrolled
let numCards = AT_ONCE;

function listed() {
  const ofClass = (item) => !state.only || item.class === state.only;
  if (state.list === "marks") return marks().filter(ofClass).sort((a, b) => a.start - b.start);
  if (state.list === "rejected") return rejected().filter(ofClass).sort((a, b) => a.start - b.start);
  const likely = (p) => p.accepted || state.unlikely || state.order === "teaches";
  const orders = {
    score: (a, b) => b.score - a.score,
    time: (a, b) => a.start - b.start,
    teaches: (a, b) => b.teaches - a.teaches,
  };
  return open().filter((p) => ofClass(p) && likely(p)).sort(orders[state.order]);
}

function nextAfter(item) {
  const items = listed();
  const at = items.findIndex((other) => isSame(other, item));
  return items[at + 1] ?? items[at - 1] ?? null;
}

function step(direction) {
  const items = listed();
  if (!items.length) return;
  const at = items.findIndex((item) => isSame(item, state.selected));
  const next = at < 0 ? (direction > 0 ? 0 : items.length - 1) : at + direction;
  select(items[next] ?? items[at]); // Past the last one: that one again.
}

// A browser has few connections to one server, and a picture takes its time. Two at once leave the
// others to the player.
const PICTURES_AT_ONCE = 2;
const picturesWanted = [];
let picturesComing = 0;

const inView = new IntersectionObserver((rows) => {
  for (const { target, isIntersecting } of rows) {
    if (!isIntersecting) continue;
    inView.unobserve(target);
    picturesWanted.push(target.querySelector("img"));
  }
  loadPictures();
});

function loadPictures() {
  while (picturesComing < PICTURES_AT_ONCE && picturesWanted.length) {
    const image = picturesWanted.shift();
    if (!image.isConnected) continue;
    picturesComing += 1;
    image.onload = image.onerror = () => {
      picturesComing -= 1;
      loadPictures();
    };
    image.src = image.dataset.src;
  }
}

function cardOf(item) {
  const row = element("li");
  row.item = item;
  const card = element("button", `event ${hueOf(item.class)}`);
  if (item.kind === "rejected") card.classList.add("crossed");
  const shot = element("span", "shot");
  const image = element("img");
  image.dataset.src = pictureAt(item.peak ?? (item.start + item.end) / 2, 224, false);
  image.alt = "";
  inView.observe(row);
  shot.append(image);
  const text = element("span");
  const what = element("span", "what");
  what.append(element("span", "dot"), element("span", "", nameOf(item.class)));
  const when = element("span", "when");
  when.append(element("span", "mono", clockTime(item.start, 1)));
  const length = item.end - item.start;
  when.append(element("span", "", length > 0 ? `${length.toFixed(1)} s` : "spot"));
  if (item.kind === "proposal" && !item.accepted) when.append(element("span", "tag", "unlikely"));
  text.append(what, when);
  if (item.score !== undefined && item.kind === "proposal") text.append(meterOf(item.score));
  if (item.note) text.append(element("span", "note", item.note));
  card.append(shot, text);
  card.addEventListener("click", () => select(item));
  row.append(card);
  if (item.kind === "proposal") row.append(quickAnswers(item));
  return row;
}

function meterOf(value) {
  const meter = element("span", "meter");
  const bar = element("i");
  const fill = element("b");
  fill.style.width = `${100 * value}%`;
  bar.append(fill);
  const score = element("span", "mono");
  score.append(element("span", "hide", "score "), value.toFixed(2));
  meter.append(bar, score);
  return meter;
}

function quickAnswers(item) {
  const quick = element("span", "quick");
  for (const [sign, name, act] of [["✓", "Accept", accept], ["✗", "Reject", reject]]) {
    const button = element("button", "button", sign);
    button.title = name;
    button.setAttribute("aria-label", `${name} ${describe(item)}`);
    button.addEventListener("click", () => {
      if (!isSame(item, state.selected)) select(item, { stay: true });
      act();
    });
    quick.append(button);
  }
  return quick;
}

// Cards of what has not changed stay, so that their pictures do not load again.
const cards = new Map();
function showList() {
  const items = listed();
  const at = items.findIndex((item) => isSame(item, state.selected));
  numCards = Math.max(numCards, at + 10);
  const shown = items.slice(0, numCards);
  const kept = new Map();
  const rows = shown.map((item) => {
    const stamp = JSON.stringify([state.match, item, nameOf(item.class), hueOf(item.class)]);
    const row = cards.get(stamp) ?? cardOf(item);
    kept.set(stamp, row);
    return row;
  });
  cards.clear();
  kept.forEach((row, stamp) => cards.set(stamp, row));
  const list = $("list");
  const { scrollTop } = list;
  const focused = list.contains(document.activeElement);
  if (rows.length !== list.children.length || rows.some((row, k) => row !== list.children[k])) {
    list.replaceChildren(...rows);
    list.scrollTop = scrollTop;
  }
  $("empty").hidden = items.length > 0;
  $("empty").textContent = emptyText();
  showCurrent();
  // The card that had the focus is answered: the next one has it.
  if (focused && !list.contains(document.activeElement)) list.querySelector("[aria-current]")?.focus();
}

function emptyText() {
  if (state.list === "marks") return "No marks yet.";
  if (state.list === "rejected") return "Nothing rejected yet.";
  if (open().length && state.only) return "No open proposals of this class.";
  if (open().length) return "No likely proposals are open. Tick 'unlikely too' to see the rest.";
  if (!project.learning.version) {
    return "Mark two moments of one class. Touchline then proposes others like them.";
  }
  return "All proposals are answered.";
}

function showCurrent() {
  const list = $("list");
  list.querySelectorAll("[aria-current]").forEach((old) => old.removeAttribute("aria-current"));
  const row = [...list.children].find((one) => isSame(one.item, state.selected));
  if (!row) return;
  row.firstChild.setAttribute("aria-current", "true");
  if (list.scrollHeight <= list.clientHeight + 1) return;
  const away = row.offsetTop - list.offsetTop - list.scrollTop;
  if (away < 0 || away + row.offsetHeight > list.clientHeight) {
    list.scrollTop += away - list.clientHeight / 3;
  }
}

function showCounts() {
  const confirmed = match().marks.length;
  const likely = open().filter((p) => p.accepted).length;
  const unlikely = open().length - likely;
  $("count-open").textContent = likely;
  $("count-marks").textContent = confirmed;
  $("count-rejected").textContent = match().rejected.length;
  const found = `${confirmed + likely} found: ${confirmed} confirmed, ${likely} likely and open. `;
  const rest = unlikely ? `${unlikely} unlikely. ` : "";
  const missed = answers.missed ? `Estimate: ${answers.missed.text}.` : "";
  $("counts").textContent = project.learning.version ? `${found}${rest}${missed}` : "";
}

function setList(list) {
  state.list = list;
  numCards = AT_ONCE;
  for (const name of ["open", "marks", "rejected"]) {
    $(`show-${name}`).setAttribute("aria-pressed", String(name === list));
  }
  $("order").closest("label").hidden = list !== "open";
  $("list").scrollTop = 0;
  showFilters();
  showList();
}

function showFilters() {
  $("unlikely-label").hidden = state.list !== "open" || state.order === "teaches";
}

function watchList() {
  const more = (scroller) => {
    if (scroller.scrollTop + scroller.clientHeight < scroller.scrollHeight - 600) return;
    if (numCards >= listed().length) return;
    numCards += AT_ONCE;
    showList();
  };
  $("list").addEventListener("scroll", () => more($("list")));
  document.addEventListener("scroll", () => more(document.scrollingElement));
  for (const name of ["open", "marks", "rejected"]) {
    $(`show-${name}`).addEventListener("click", () => setList(name));
  }
  $("order").addEventListener("change", () => {
    state.order = $("order").value;
    numCards = AT_ONCE;
    $("list").scrollTop = 0;
    showFilters();
    showList();
  });
  $("only").addEventListener("change", () => {
    state.only = $("only").value;
    showList();
  });
  $("unlikely").addEventListener("change", () => {
    state.unlikely = $("unlikely").checked;
    showList();
    drawSoon();
  });
}
