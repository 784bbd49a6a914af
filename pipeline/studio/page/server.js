// Talks to the server. An action counts when the server has written it to disk, not before. Without
// a connection actions wait in a list that the page shows, and are sent when the server is back.
let connected = false;
let updates = null; // the open stream of updates
let lastUpdate = 0;
const waiting = [];

async function request(path, body) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(30000),
  });
  const text = await answer.text();
  let value = {};
  try {
    value = JSON.parse(text);
  } catch {
    // A proxy or a wrong address answers with something else; the status says enough.
  }
  if (!answer.ok) {
    const error = new Error(value.error ?? `The server answered ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return value;
}

// One action after the other, in the order in which they were made.
let tail = Promise.resolve();
function act(body, text) {
  tail = tail.then(() => send(body, text));
  return tail;
}

async function send(body, text) {
  if (!connected) return wait(body, text);
  let answer;
  try {
    answer = await request("/api/do", body);
  } catch (error) {
    if (error.status && error.status !== 403) {
      notice(`Not saved: ${text}. ${error.message}`);
      await refresh().catch(fail);
      return null;
    }
    lose(error);
    return wait(body, text);
  }
  await refresh().catch(fail);
  return answer;
}

function wait(body, text) {
  if (body.do === "undo" || body.do === "redo") notice(`Not done: ${text}. There is no connection.`);
  else waiting.push({ body, text });
  showLost();
  return null;
}

// An action may have reached the disk although its answer never came.
function isDone(body) {
  const all = project.matches.flatMap((m) => m.marks);
  const same = (m) => m.class === body.class && m.start === body.start && m.end === body.end;
  const here = project.matches.find((m) => m.id === body.match);
  if (body.do === "mark" || body.do === "accept") return here?.marks.some(same);
  if (body.do === "reject") return here?.rejected.some(same);
  if (body.do === "remove_mark") return !all.some((m) => m.id === body.mark);
  if (body.do === "add_class") return project.classes.some((c) => c.name === body.name);
  if (body.do === "remove_class" || body.do === "merge_classes") return !classOf(body.class);
  return false;
}

// What does not arrive this time either waits again, in the same order.
async function sendWaiting() {
  for (const { body, text } of waiting.splice(0)) if (!isDone(body)) await act(body, text);
  showLost();
}

// What has changed is fetched; calls while a fetch runs lead to one more fetch after it. The
// proposals come after the project, so they are never older than it.
let refreshing = null;
let again = false;
function refresh() {
  again = true;
  refreshing ??= fetchAll();
  return refreshing;
}

async function fetchAll() {
  try {
    while (again) {
      again = false;
      project = await request("/api/project");
      // Footage that is gone has no length; its marks are still shown.
      for (const one of project.matches) one.durationS ||= Math.max(0, ...one.marks.map((m) => m.end));
      if (!state.match) findPlace();
      if (!match()) showMatch(project.matches[0].id);
      await loadAnswers();
      showProject();
    }
  } finally {
    refreshing = null;
  }
}

async function loadAnswers() {
  const { id } = match();
  const known = curves.match === id && curves.version === project.learning.version;
  const [proposals, newCurves] = await Promise.all([
    request(`/api/matches/${id}/proposals`),
    known ? curves : request(`/api/matches/${id}/curves`),
  ]);
  if (state.match !== id) return;
  answers = proposals;
  curves = decodeCurves(newCurves, id);
  state.answered.clear();
}

// The server refuses something, or there is none.
function fail(error) {
  if (error.status && error.status !== 403) notice(error.message);
  else lose(error);
}

function decodeCurves(answer, id) {
  if (answer.levels) return answer;
  const levels = {};
  for (const [name, encoded] of Object.entries(answer.values)) levels[name] = levelsOf(encoded);
  return { match: id, version: answer.version, stepS: answer.stepS, levels };
}

async function loadWaveform() {
  const { id, problem } = match();
  waveform = { stepS: 1, levels: new Uint8Array() };
  if (problem) return;
  try {
    const answer = await request(`/api/matches/${id}/waveform`);
    if (state.match !== id) return;
    waveform = { stepS: answer.stepS ?? 1, levels: levelsOf(answer.values) };
  } catch {
    // The lane of the sound stays away; nothing else needs it.
  }
  showLanes();
}

async function connect() {
  try {
    await refresh();
  } catch (error) {
    lose(error);
    return;
  }
  connected = true;
  lastUpdate = performance.now();
  updates?.close();
  updates = new EventSource("/api/updates");
  updates.onmessage = (message) => update(JSON.parse(message.data));
  updates.onerror = () => lose(new Error("The server does not answer."));
  showLost();
  reloadFootage();
  sendWaiting();
}

function lose(error) {
  connected = false;
  updates?.close();
  updates = null;
  showLost(error);
  clearTimeout(lose.timer);
  lose.timer = setTimeout(connect, 1500);
}

// The server says something every 15 s at the latest.
setInterval(() => {
  if (updates && performance.now() - lastUpdate > 45000) lose(new Error("The server is silent."));
}, 5000);

// A window that is not seen leaves its connection to those that are.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    connect();
  } else if (connected) {
    updates?.close();
    updates = null;
  }
});

function update(news) {
  lastUpdate = performance.now();
  if (!project) return;
  const before = project.learning.version;
  project.learning = news.learning;
  let played = false;
  for (const one of project.matches) {
    one.features = news.features[one.id] ?? one.features;
    const proxy = news.proxy[one.id] ?? one.proxy;
    played ||= proxy.state === "done" && one.proxy.state !== "done";
    one.proxy = proxy;
  }
  showStatus();
  showUnplayable();
  drawSoon();
  if (played) loaded = "";
  if (news.revision !== project.revision || before !== news.learning.version || played) {
    refresh().catch(fail);
  }
}

window.addEventListener("beforeunload", (leaving) => {
  if (waiting.length) leaving.preventDefault();
});
