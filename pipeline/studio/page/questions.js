// The question box. The server reads the question and answers it; all of it is shown as text.
let reply = null; // the answer shown: what it was made from, to see when that has changed
let numAsked = 0;

// In full screen the box cannot be seen, and keys would go to it unseen.
function openQuestion() {
  if (document.fullscreenElement) document.exitFullscreen();
  $("question").focus();
  $("question").select();
}

function clearReply() {
  numAsked += 1;
  reply = null;
  $("reply").replaceChildren();
}

function ask(submit) {
  submit.preventDefault();
  askServer($("question").value);
}

// Marks that are on their way count, so they are saved first.
async function askServer(question) {
  clearReply();
  const number = numAsked;
  const { match: id } = state;
  let answer;
  try {
    if (!connected) throw new Error("There is no connection to Touchline.");
    saveDraft();
    await tail;
    answer = await request(`/api/matches/${id}/ask`, { question });
  } catch (error) {
    answer = { refused: `No answer: ${error.message}` };
  }
  if (number !== numAsked) return;
  reply = answer;
  $("reply").replaceChildren(...(answer.sentences ? answerRows(answer) : refusalRows(answer)));
  showStale();
}

function answerRows(answer) {
  const { confirmed, open: likely } = answer;
  const counted = `This match: ${confirmed} confirmed, ${likely} likely and open.`;
  return [
    headRow(`Read as: ${answer.readAs}`, "soft"),
    ...answer.sentences.map(sentenceRow),
    element("p", "soft", counted),
  ];
}

function refusalRows({ refused, nearest }) {
  const rows = [headRow(refused, "")];
  if (!nearest) return rows;
  const button = element("button", "button nearest", nearest);
  button.addEventListener("click", () => {
    $("question").value = nearest;
    askServer(nearest);
  });
  return [...rows, element("p", "soft", "A question that can be answered:"), button];
}

function headRow(text, className) {
  const row = element("div", "row");
  const close = element("button", "button close", "×");
  close.setAttribute("aria-label", "Close the answer");
  close.addEventListener("click", clearReply);
  row.append(element("p", className, text), close);
  return row;
}

// The time in a sentence is a button that brings the player there.
function sentenceRow({ text, event }) {
  const row = element("p");
  const at = event ? text.lastIndexOf(event.when) : -1;
  if (at < 0) {
    row.textContent = text;
    return row;
  }
  const stamp = element("button", "button mono stamp", event.when);
  stamp.title = "Go there";
  stamp.addEventListener("click", () => jumpTo(event.time));
  row.append(text.slice(0, at), stamp, text.slice(at + event.when.length));
  if (!event.confirmed) row.append(" ", element("span", "tag", "proposal"));
  return row;
}

// An answer stays as it was given. Once marks or proposals are others, it says so.
function showStale() {
  const changed =
    reply && (project.revision > reply.revision || project.learning.version > reply.version);
  const said = $("reply").querySelector(".stale");
  if (!changed || said) return;
  $("reply").append(element("p", "stale", "Marks or proposals have changed since. Ask again."));
}
