// What the page knows. `project` is as the server has it; `state` is what this window shows of it.
const video = $("video");
const KEYS = [..."123456789abdeghmpruv"]; // the letters that are no command

let project = null;
const state = {
  match: null, // the id of the match shown
  time: 0, // Touchline's time: seconds from the start of the file
  frameS: null, // the time of the frame that the player shows
  playable: false,
  playerStartS: 0, // where the player's clock starts
  selected: null, // a mark, a proposal or a rejected one, with its `kind`
  draft: null, // class, start and end of the selected one while they change
  drawn: null, // a new interval while it is drawn: class, start, end
  relabel: false, // the next class key corrects the class
  list: "open",
  order: "score",
  only: "", // the id of the only class listed; "" for all
  unlikely: false,
  stretch: { in: null, out: null },
  loop: false,
  answered: new Set(), // keys of proposals whose answer is on its way
};
// Of the match shown.
let answers = { version: 0, proposals: [], missed: null };
let curves = { version: 0, stepS: 1, values: {} };
let waveform = { stepS: 1, levels: new Uint8Array() };

const match = () => project.matches.find((m) => m.id === state.match);
const classOf = (id) => project.classes.find((c) => c.id === id);
const nameOf = (id) => classOf(id)?.name ?? "?";
const hueOf = (id) => hue(classOf(id)?.colour ?? 7);
const keyOf = (id) => KEYS[project.classes.findIndex((c) => c.id === id)];
const frameS = () => 1 / (match()?.frameRate || 25);
const inside = (seconds) => Math.min(Math.max(0, seconds), match()?.durationS ?? 0);
const proposalKey = (p) => `${p.class}:${p.start}:${p.end}`;

const marks = () => match().marks.map((m) => ({ ...m, kind: "mark" }));
const rejected = () => match().rejected.map((r) => ({ ...r, kind: "rejected" }));
const open = () =>
  answers.proposals
    .filter((p) => !state.answered.has(proposalKey(p)))
    .map((p) => ({ ...p, kind: "proposal" }));

const isSame = (a, b) =>
  Boolean(a && b) &&
  a.kind === b.kind &&
  (a.kind === "proposal" ? proposalKey(a) === proposalKey(b) : a.id === b.id);

// The selected one with its changes that are not saved yet.
const shownItem = () => state.selected && { ...state.selected, ...state.draft };

function describe(item) {
  const length = item.end > item.start ? ` to ${clockTime(item.end, 1)}` : "";
  return `${nameOf(item.class)} at ${clockTime(item.start, 1)}${length}`;
}

function say(text) {
  $("say").textContent = text;
}
