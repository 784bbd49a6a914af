// What the page says: what to do next, how far features and learning are, what went wrong.
function showStatus() {
  const { features } = match();
  const { learning } = project;
  const share = features.doneS / Math.max(match().durationS, 0.001);
  const running = features.state === "running" || features.state === "waiting";
  $("features-bar").hidden = !running;
  $("features-bar").value = Math.min(1, share);
  const left = features.etaS ? `, ${duration(features.etaS)} left` : "";
  $("features-text").textContent = {
    waiting: "features begin soon",
    running: `features ${Math.floor(100 * share)} %${left}`,
    done: "features done",
    failed: `Features failed. ${features.problem ?? ""}`,
  }[features.state];
  const learnt = learning.version ? `learnt${learning.seconds ? ` in ${learning.seconds.toFixed(1)} s` : ""}` : "";
  $("learning-text").textContent = {
    idle: learnt,
    running: "learning …",
    failed: `Learning failed. ${learning.problem ?? ""}`,
  }[learning.state];
  $("features-text").classList.toggle("bad", features.state === "failed");
  $("learning-text").classList.toggle("bad", learning.state === "failed");
  showHint();
}

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function showHint() {
  const parts = hintParts();
  const stamp = JSON.stringify(parts);
  if (showHint.stamp === stamp) return;
  showHint.stamp = stamp;
  $("hint").replaceChildren(...parts.map((p) => (p.key ? element("kbd", "", p.key) : p)));
}

function hintParts() {
  const { learning, classes } = project;
  const numMarks = project.matches.reduce((sum, m) => sum + m.marks.length, 0);
  if (!classes.length) return ["Name what you look for."];
  if (state.relabel) return ["Press the key of the right class."];
  if (!numMarks && !learning.version) {
    return ["Play the match. Press ", { key: "1" }, ` when you see ${classes[0].name}. Hold it for an interval.`];
  }
  if (learning.waitsFor) return [`Touchline waits for ${learning.waitsFor}. Then it looks for the rest.`];
  if (!learning.version) return learning.state === "running" ? ["Touchline looks for the rest …"] : [];
  const likely = open().filter((p) => p.accepted).length;
  const numAnswers = project.matches.reduce(
    (sum, m) => sum + m.rejected.length + m.marks.filter((k) => k.source === "proposal").length, 0);
  if (likely && numAnswers < 3) {
    return [`${likely} found. `, { key: "j" }, " shows the next, ", { key: "y" }, " accepts it, ", { key: "x" }, " rejects it. Each answer teaches."];
  }
  return [];
}

// Stays until it is closed.
function notice(text, good = false) {
  const box = element("div", good ? "note-box good" : "note-box");
  box.setAttribute("role", good ? "status" : "alert");
  const close = element("button", "button square", "×");
  close.setAttribute("aria-label", "Close the message");
  close.addEventListener("click", () => box.remove());
  box.append(element("span", "", text), close);
  $("notices").append(box);
}

function showLost(error) {
  $("lost").hidden = connected;
  $("waiting").replaceChildren(...waiting.map(({ text }) => element("li", "", text)));
  if (connected) return;
  const refused = error?.status === 401 || error?.status === 403;
  if (error) {
    $("lost-title").textContent = refused ? "This address is out of date." : "No connection to Touchline.";
    $("lost-text").textContent = refused
      ? "Open the address that `touchline studio` printed when it started."
      : "Start `touchline studio` again with the same project. This page then goes on by itself.";
  }
  if (waiting.length) $("lost-text").textContent += $("lost-text").textContent.endsWith("is back:") ? "" : " To be saved when the connection is back:";
}

// Everything that follows from the project.
function showProject() {
  const single = project.matches.length === 1;
  $("name").textContent = single ? match().name : project.name;
  $("matches").hidden = single;
  const options = project.matches.map((m) => {
    const num = m.marks.length;
    const what = m.problem ? "problem" : `${num} ${num === 1 ? "mark" : "marks"}`;
    return new Option(`${m.name} (${what})`, m.id, false, m.id === state.match);
  });
  const stamp = options.map((o) => o.text).join("\n");
  if (stamp !== showProject.stamp) $("match").replaceChildren(...options);
  showProject.stamp = stamp;
  $("undo").disabled = !project.canUndo;
  $("redo").disabled = !project.canRedo;
  keepSelected();
  loadFootage();
  showClasses();
  showStatus();
  showItem();
  showLanes();
  showList();
  showCounts();
  showStale();
  showTime();
}

// The selected one may have changed in another window, or be gone. A proposal that was learnt anew
// may have moved a little; one that is no longer proposed stays until it is answered.
function keepSelected() {
  const { selected } = state;
  if (!selected) return;
  if (selected.kind === "proposal") {
    const overlaps = (p) => p.class === selected.class && p.start < selected.end && selected.start < p.end;
    const all = open();
    state.selected = all.find((p) => isSame(p, selected)) ?? all.find(overlaps) ?? selected;
    return;
  }
  const all = selected.kind === "mark" ? marks() : rejected();
  const same = all.find((item) => item.id === selected.id);
  if (!same) {
    state.selected = null;
    state.draft = null;
  } else if (!state.draft) state.selected = same;
}

function showMatch(id) {
  state.match = id;
  state.selected = null;
  state.draft = null;
  state.time = 0;
  answers = { version: 0, proposals: [], missed: null };
  curves = { version: 0, stepS: 1, values: {} };
  numCards = AT_ONCE;
  fitted = true;
  setLoop(false);
  clearStretch();
  clearReply();
  loadWaveform();
}

async function switchMatch(id) {
  saveDraft();
  showMatch(id);
  showProject();
  say(`match ${match().name}`);
  await refresh().catch(fail);
}

async function openExport() {
  $("export-dialog").showModal();
  if ($("formats").childElementCount) return;
  try {
    const formats = await request("/api/formats");
    $("formats").replaceChildren(
      ...formats.map((name) => {
        const label = element("label", "check");
        const box = element("input");
        box.type = "checkbox";
        box.value = name;
        box.checked = name === "csv";
        label.append(box, name);
        return label;
      }),
    );
  } catch (error) {
    $("exported").textContent = `The formats could not be read. ${error.message}`;
  }
}

async function exportNow() {
  const formats = [...$("formats").querySelectorAll(":checked")].map((box) => box.value);
  if (!formats.length) {
    $("exported").textContent = "Choose a format first.";
    return;
  }
  $("exported").textContent = "Writing …";
  try {
    const { files, problems } = await request("/api/export", { formats });
    const lines = files.length ? ["Written:", ...files] : ["Nothing was written."];
    $("exported").textContent = [...lines, ...problems].join("\n");
  } catch (error) {
    $("exported").textContent = `Nothing was written. ${error.message}`;
  }
}

async function saveModel() {
  $("save-model").disabled = true;
  say("saving the model");
  try {
    const { path, text } = await request("/api/model", {});
    notice(`Model saved: ${path}\n${text}`, true);
  } catch (error) {
    notice(`The model was not saved. ${error.message}`);
  }
  $("save-model").disabled = false;
}
