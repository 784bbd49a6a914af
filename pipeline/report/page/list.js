// The list of events and its filters.
function cardOf(event) {
  if (event.card) return event.card;
  const item = element("li");
  const card = element("button", `event ${hue(event.label)}${event.accepted ? "" : " below"}`);
  const shot = element("span", "shot");
  if (event.picture) {
    const image = element("img");
    image.src = event.picture;
    image.alt = "";
    image.loading = "lazy";
    shot.append(image);
  }
  const text = element("span");
  const what = element("span", "what");
  what.append(element("span", "dot"), element("span", "", data.labels[event.label]));
  const when = element("span", "when");
  when.append(element("span", "mono", clockTime(event.start)));
  const clock = matchClock(event.peak);
  if (clock) when.append(element("span", "", clock));
  when.append(element("span", "", `${(event.end - event.start).toFixed(1)} s`));
  if (!event.accepted) when.append(element("span", "tag", "below threshold"));
  const meter = element("span", "meter");
  const bar = element("i");
  const fill = element("b");
  fill.style.width = `${100 * event.score}%`;
  bar.append(fill);
  const score = element("span", "mono");
  score.append(element("span", "hide", "score "), event.score.toFixed(2));
  meter.append(bar, score);
  text.append(what, when, meter);
  card.append(shot, text);
  card.addEventListener("click", () => goTo(event));
  item.append(card);
  event.card = item;
  return item;
}

function showList(shown) {
  const order = [...shown];
  if (state.sort === "score") order.sort((a, b) => b.score - a.score);
  $("list").replaceChildren(...order.map(cardOf));
  $("empty").hidden = order.length > 0;
  $("count").textContent = `${order.length} of ${events.length}`;
}

function buildChips() {
  data.labels.forEach((name, label) => {
    const chip = element("button", `chip ${hue(label)}`);
    chip.append(element("span", "dot"), element("span", "name", name), element("span", "count"));
    chip.addEventListener("click", () => toggleClass(label));
    $("chips").append(chip);
  });
}

function toggleClass(label) {
  if (!state.off.delete(label)) state.off.add(label);
  show();
}

function showFilters() {
  const counts = data.labels.map(() => 0);
  events.filter(passes).forEach((event) => (counts[event.label] += 1));
  [...$("chips").children].forEach((chip, label) => {
    chip.setAttribute("aria-pressed", String(!state.off.has(label)));
    chip.lastChild.textContent = counts[label];
  });
  lanes.forEach((lane, label) => {
    lane.row.classList.toggle("off", state.off.has(label));
    lane.count.textContent = counts[label];
    const lowest = lowestOf(label);
    lane.limit.hidden = lowest === null;
    if (lowest !== null) lane.limit.style.bottom = `${100 * lowest}%`;
  });
  const asDetected = state.lowest === null;
  $("score").value = state.lowest ?? common ?? (given.length ? Math.min(...given) : 0.5);
  $("score-text").textContent = asDetected && common === null ? "per class" : Number($("score").value).toFixed(2);
  $("score").setAttribute("aria-valuetext", $("score-text").textContent);
  $("reset").disabled = asDetected;
  const range = given.length
    ? `each class has its threshold (${Math.min(...given).toFixed(2)} to ${Math.max(...given).toFixed(2)})`
    : "the events that were accepted";
  $("score-note").textContent = !asDetected
    ? "one minimum for all classes"
    : common !== null
      ? "the detection threshold"
      : range;
  if (data.numLeftOut) $("score-note").textContent += `; without the ${data.numLeftOut} weakest events`;
}
