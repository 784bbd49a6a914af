// Compares the events shown with the labels. Each label is found at most once: by the event with
// the highest score whose class is right and whose peak is inside the label.
function compare(shown) {
  return data.labels.map((_, label) => {
    const truth = data.truth.filter((event) => event.label === label);
    const found = new Set();
    let wrong = 0;
    const mine = shown.filter((event) => event.label === label);
    mine.sort((a, b) => b.score - a.score);
    for (const event of mine) {
      const away = (t) => Math.max(t.start - event.peak, event.peak - t.end, 0);
      const free = truth.filter((t) => !found.has(t) && away(t) <= data.toleranceS + 1e-9);
      free.sort((a, b) => away(a) - away(b));
      if (free.length) found.add(free[0]);
      else wrong += 1;
    }
    return { labels: truth.length, found: found.size, wrong };
  });
}

function showTruth(shown) {
  const table = $("truth-table");
  if (!table) return;
  $("truth-rule").textContent =
    "An event is right if its peak is inside a label of its class or at most " +
    `${data.toleranceS} s away from it. Each label counts once. The numbers change with the slider.`;
  const rows = compare(shown);
  const total = { labels: 0, found: 0, wrong: 0 };
  const share = (a, b) => (b ? `${Math.round((100 * a) / b)} %` : "–");
  const cells = (r) => [
    r.labels, r.found, r.labels - r.found, r.wrong,
    share(r.found, r.found + r.wrong), share(r.found, r.labels),
  ];
  const line = (name, values, label) => {
    const row = element("tr");
    const head = element("th", label === undefined ? "" : hue(label));
    head.scope = "row";
    if (label !== undefined) head.append(element("span", "dot"));
    head.append(name);
    row.append(head, ...values.map((value) => element("td", "", value)));
    return row;
  };
  const head = element("thead");
  const names = element("tr");
  ["Class", "Labels", "Found", "Missed", "False alarms", "Precision", "Recall"].forEach((name) => {
    const cell = element("th", "", name);
    cell.scope = "col";
    names.append(cell);
  });
  head.append(names);
  const body = element("tbody");
  rows.forEach((row, label) => {
    Object.keys(total).forEach((key) => (total[key] += row[key]));
    if (!state.off.has(label)) body.append(line(data.labels[label], cells(row), label));
  });
  const foot = element("tfoot");
  foot.append(line("All classes", cells(total)));
  table.replaceChildren(head, body, foot);
}
