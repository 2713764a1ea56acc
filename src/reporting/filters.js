"use strict";
// Filters of rollouts. They are also the end of the page's address, so that a link opens the page with them.

const form = document.getElementById("filters");

function number(name) {
  return form.elements[name].value === "" ? null : Number(form.elements[name].value);
}

/** The index of the chosen place; null if none is chosen. */
function placeOf(name) {
  const {value} = form.elements[name];
  return value === "" ? null : data.places.findIndex((place) => place.name === value);
}

/** Disable filters that need another one, and choose what to compare with the place beside. */
function settle() {
  const {place, beside, result, term, low, high} = form.elements;
  low.disabled = high.disabled = term.value === "";
  result.querySelector("[value=changed]").disabled = beside.value === "";
  if (result.selectedOptions[0]?.disabled) result.value = "";
  if (beside.value !== "" && place.value === "") place.value = partner(beside.value);
}

/** The chosen filters as a test of one turn; null if none is set. */
function turnTest() {
  const [round, few, many, low, high] = ["round", "few", "many", "low", "high"].map(number);
  const [term, result] = [form.elements.term.value, form.elements.result.value];
  const tests = [
    round !== null && ((turn) => turn.round === round),
    few !== null && ((turn) => turn.tokens >= few),
    many !== null && ((turn) => turn.tokens <= many),
    term && ((turn) => term in turn.scores && turn.scores[term] >= (low ?? -Infinity) && turn.scores[term] <= (high ?? Infinity)),
    result === "right" && ((turn) => turn.correct === 1),
    result === "wrong" && ((turn) => turn.correct === 0),
    result === "between" && ((turn) => turn.correct > 0 && turn.correct < 1),
    result === "cut" && ((turn) => turn.status === "truncated"),
  ].filter(Boolean);
  return tests.length ? (turn) => tests.every((test) => test(turn)) : null;
}

/** Whether a rollout holds the words that are searched. */
function says(rollout, words) {
  if (!words) return true;
  const texts = [rollout.question, rollout.answer, rollout.id, ...rollout.turns.map((turn) => turn.text)];
  return texts.some((text) => text.toLowerCase().includes(words));
}

/** The chosen filters as a test of a rollout: one turn meets all, and the rollout holds the words. */
function rolloutTest() {
  const test = turnTest();
  const words = form.elements.words.value.trim().toLowerCase();
  return (rollout) => (!test || rollout.turns.some(test)) && says(rollout, words);
}

/** Write the filters into the page's address. */
function remember() {
  const set = [...new FormData(form)].filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(set)}`);
}

/** Read the filters from the page's address, and name those that the page does not have or cannot apply. */
function recall() {
  const wanted = [...new URLSearchParams(location.hash.slice(1))];
  clear();
  for (const [name, value] of wanted) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    field.value = value;
    if (field.selectedIndex === -1) field.value = ""; // the list of choices has no such value
  }
  settle();
  const set = new FormData(form);
  const ignored = wanted.filter(([name, value]) => value !== "" && set.get(name) !== value);
  document.getElementById("ignored").replaceChildren(...ignored.flatMap(([name, value], index) =>
    [index ? ", " : "Ignored in the address: ", make("bdi", {}, `${name}=${value}`)]));
}

function clear() {
  for (const field of form.elements) field.value = "";
  document.getElementById("ignored").textContent = "";
}

/** Add options, pairs of a value and its text, to a list of choices. */
function offer(select, pairs) {
  select.append(...pairs.map(([value, text]) => make("option", {value}, text)));
}
