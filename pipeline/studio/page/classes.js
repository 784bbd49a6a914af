// The classes: a button with its key for each, and the dialog in which they are changed.
const COLOURS = [
  "green", "orange", "blue", "pink", "violet", "teal",
  "gold", "slate", "rust", "olive", "orchid", "sage",
];

function fillClasses(list, chosen, first) {
  const options = project.classes.map((c) => new Option(c.name, c.id, false, c.id === chosen));
  if (first !== undefined) options.unshift(new Option(first, "", false, !chosen));
  list.replaceChildren(...options);
}

let classesShown = "";
function showClasses() {
  const counts = new Map();
  match().marks.forEach((m) => counts.set(m.class, (counts.get(m.class) ?? 0) + 1));
  const stamp = JSON.stringify(project.classes);
  if (stamp !== classesShown) {
    classesShown = stamp;
    $("classes").replaceChildren(...project.classes.map(classButton));
    fillClasses($("only"), state.only, "all classes");
    if (!classOf(state.only)) state.only = "";
    showClassRows();
  }
  [...$("classes").children].forEach((button) => {
    button.lastChild.textContent = counts.get(button.dataset.class) ?? 0;
  });
  document.body.classList.toggle("empty-project", !project.classes.length);
  $("new-class").placeholder = project.classes.length ? "Another class" : "What you look for, such as goal";
}

function classButton(one) {
  const button = element("button", `button class ${hueOf(one.id)}`);
  button.dataset.class = one.id;
  const key = keyOf(one.id);
  button.title = key ? `Press ${key} for a spot, hold it for an interval` : one.name;
  button.append(element("span", "dot"));
  if (key) button.append(element("kbd", "", key));
  button.append(element("span", "label", one.name), element("span", "count"));
  button.addEventListener("pointerdown", (down) => {
    if (down.button === 0) pressClass(one.id);
  });
  button.addEventListener("pointerup", () => releaseClass(one.id));
  button.addEventListener("pointerleave", () => releaseClass(one.id));
  button.addEventListener("pointercancel", () => {
    holds.delete(one.id);
    showHeld();
  });
  button.addEventListener("click", (click) => {
    if (click.detail) return; // A pointer; pressed and released above.
    pressClass(one.id);
    releaseClass(one.id);
  });
  button.addEventListener("contextmenu", (menu) => menu.preventDefault());
  return button;
}

function freeColour() {
  const used = project.classes.map((c) => c.colour);
  const free = COLOURS.findIndex((_, colour) => !used.includes(colour));
  return free < 0 ? project.classes.length % NUM_HUES : free;
}

async function addClass(submit) {
  submit.preventDefault();
  const field = $("new-class");
  const name = field.value.trim();
  if (!name) return;
  field.blur(); // Its key may be pressed next.
  field.value = ""; // At once: the next name may be typed before the answer comes.
  const answer = await act({ do: "add_class", name, colour: freeColour() }, `the class ${name}`);
  if (!answer && !waiting.length && !field.value) field.value = name;
  if (answer) say(`Class ${name}. Its key is ${keyOf(answer.id) ?? "none"}.`);
}

function showClassRows() {
  const focused = document.activeElement?.closest("#class-rows") && document.activeElement.id;
  $("class-rows").replaceChildren(...project.classes.map(classRow));
  if (focused) $(focused)?.focus();
}

function classRow(one) {
  const row = element("div", `class-row ${hueOf(one.id)}`);
  const name = element("input");
  name.id = `name-${one.id}`;
  name.value = one.name;
  name.maxLength = 80;
  name.setAttribute("aria-label", `Name of ${one.name}`);
  name.addEventListener("change", () => {
    const text = name.value.trim();
    if (text && text !== one.name) act({ do: "edit_class", class: one.id, name: text }, `the name ${text}`);
  });
  const colour = element("select");
  colour.id = `colour-${one.id}`;
  colour.setAttribute("aria-label", `Colour of ${one.name}`);
  colour.append(...COLOURS.map((c, k) => new Option(c, k, false, k === one.colour)));
  colour.addEventListener("change", () => {
    act({ do: "edit_class", class: one.id, colour: Number(colour.value) }, `the colour of ${one.name}`);
  });
  const into = element("select");
  into.id = `into-${one.id}`;
  into.setAttribute("aria-label", `Merge ${one.name} into another class`);
  into.append(new Option("merge into …", ""));
  into.append(...project.classes.filter((c) => c !== one).map((c) => new Option(c.name, c.id)));
  into.disabled = project.classes.length < 2;
  const merge = element("button", "button", "Merge");
  merge.disabled = true;
  merge.setAttribute("aria-label", `Merge ${one.name}`);
  into.addEventListener("change", () => (merge.disabled = !into.value));
  merge.addEventListener("click", () => {
    const text = `merging ${one.name} into ${nameOf(into.value)}`;
    act({ do: "merge_classes", class: one.id, into: into.value }, text).then(tellUndo(text));
  });
  const remove = element("button", "button", "Remove");
  remove.setAttribute("aria-label", `Remove ${one.name}`);
  remove.addEventListener("click", () => {
    const text = `removing ${one.name} and its marks`;
    act({ do: "remove_class", class: one.id }, text).then(tellUndo(text));
  });
  row.append(element("span", "dot"), element("kbd", "", keyOf(one.id) ?? " "), name, colour, into, merge, remove);
  return row;
}

const tellUndo = (text) => (saved) => {
  if (saved) notice(`Done: ${text}. Undo takes it back.`, true);
};
