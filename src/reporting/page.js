"use strict";
// The page of rollouts: filters, paging, comparison of two sets of answers, and one rollout with its graph.

const PER_PAGE = 20;
const DELAY = 120; // milliseconds between typing and filtering
const FAINT = 5; // nats of surprise that get the darkest shade
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const list = document.getElementById("list");
const places = data.places.map((place, index) => [index, `${place.where} · ${place.run}`]);
let shown = [];
let page = 0;

for (const rollout of data.rollouts) {
  rollout.key = `${rollout.id}\n${rollout.question}`;
  rollout.leaves = rollout.turns.filter((turn, index) => !turn.probe && !quoting(rollout.turns, index).length);
  const scored = rollout.leaves.map((turn) => turn.correct).filter((value) => value !== null);
  rollout.correct = scored.length ? scored.reduce((sum, value) => sum + value, 0) / scored.length : null;
}

function number(name) {
  return form.elements[name].value === "" ? null : Number(form.elements[name].value);
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

/** The filters as the end of the page's address, so that a link opens the page with them. */
function remember() {
  const set = [...new FormData(form)].filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(set)}`);
}

function filter() {
  remember();
  const test = turnTest();
  const words = form.elements.words.value.trim().toLowerCase();
  const [place, beside] = [number("place"), number("beside")];
  const fits = (rollout) => (!test || rollout.turns.some(test)) && says(rollout, words);
  const here = data.rollouts.filter((rollout) => (place === null ? rollout.place !== beside : rollout.place === place));
  page = 0;
  if (beside === null) {
    shown = here.filter(fits).map((rollout) => [[rollout]]);
  } else {
    const [left, right] = [here, data.rollouts.filter((rollout) => rollout.place === beside)].map((some) =>
      Map.groupBy(some, (rollout) => rollout.key));
    shown = [...left].filter(([key]) => right.has(key)).map(([key, some]) => [some, right.get(key)])
      .filter((sides) => sides.flat().some(fits))
      .filter((sides) => form.elements.result.value !== "changed" || mean(sides[0]) !== mean(sides[1]));
  }
  render();
}

function mean(rollouts) {
  const scored = rollouts.map((rollout) => rollout.correct).filter((value) => value !== null);
  return scored.length ? scored.reduce((sum, value) => sum + value, 0) / scored.length : null;
}

function percent(value) {
  return value === null ? "no verdict" : `${Math.round(100 * value)} % right`;
}

function render() {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  const some = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  const compared = number("beside") !== null;
  const share = compared
    ? [0, 1].map((side) => percent(mean(shown.flatMap((sides) => sides[side])))).join(" → ")
    : percent(mean(shown.flat(2)));
  const what = compared ? "problems in both" : `of ${data.rollouts.length} rollouts`;
  document.getElementById("status").textContent = `${shown.length} ${what}, ${share}; page ${page + 1} of ${pages}`;
  document.getElementById("back").disabled = page === 0;
  document.getElementById("on").disabled = page + 1 >= pages;
  list.replaceChildren(...some.map(entry));
  if (some.length) list.firstChild.open = true;
}

function entry(sides) {
  const [first] = sides[0];
  const place = data.places[first.place];
  const about = sides.length > 1
    ? sides.map((side) => percent(mean(side))).join(" → ")
    : `${percent(first.correct)} · ${place.where}${first.step === null ? "" : ` ${first.step}`} · ${place.run}`;
  const box = make("details", {class: "rollout"},
    make("summary", {}, make("span", {class: "problem"}, first.question), " ", make("span", {class: "soft"}, about)));
  box.addEventListener("toggle", () => {
    if (!box.open || box.childElementCount > 1) return;
    const columns = make("div", {class: sides.length > 1 ? "sides" : ""});
    box.append(make("p", {class: "carried"}, `answer ${first.answer}, problem ${first.id}`), columns);
    for (const side of sides) {
      const column = make("div", {class: "side"});
      columns.append(column);
      if (sides.length > 1) column.append(make("p", {class: "soft"}, places[side[0].place][1]));
      side.forEach((rollout) => {
        const view = make("div", {class: "view"});
        column.append(view);
        show(view, rollout);
      });
    }
  });
  return box;
}

/** Show a rollout in `view`: its graph, and the chosen turn with all turns that led to it. */
function show(view, rollout) {
  const {turns} = rollout;
  const test = turnTest();
  const matching = test && new Set([...turns.keys()].filter((index) => test(turns[index])));
  const wanted = matching && matching.size ? matching : new Set(rollout.leaves.map((turn) => turns.indexOf(turn)));
  let chosen = [...turns.keys()].find((index) => wanted.has(index)) ?? turns.length - 1;
  const frame = make("div", {class: "frame"});
  const panel = make("div", {class: "panel", "aria-live": "polite"});
  const choose = (index, focus = true) => {
    const scrolled = frame.scrollLeft;
    chosen = index;
    frame.replaceChildren(graph(turns, frame.clientWidth, chosen, matching, choose));
    frame.scrollLeft = scrolled;
    if (focus) frame.querySelector(".chosen").focus();
    const led = [...lineage(turns, chosen)].sort((a, b) => a - b);
    panel.replaceChildren(...led.map((place) => section(turns, place, place === chosen, choose)));
  };
  view.append(...(turns.length > 1 ? [frame] : []), panel);
  choose(chosen, false);
  let width = frame.clientWidth;
  new ResizeObserver(() => {
    if (frame.clientWidth === width) return;
    width = frame.clientWidth;
    choose(chosen, false);
  }).observe(frame);
}

function section(turns, index, chosen, choose) {
  const turn = turns[index];
  const buttons = (label, places) => places.length === 0 ? null : make("span", {}, `${label} `, ...places.map((place) =>
    make("button", {type: "button", class: "link", onclick: () => choose(place)}, turns[place].number)));
  const strongest = Math.max(...turns.map((one) => Math.abs(one.advantage ?? 0)));
  const advantage = turn.advantage === null ? null : make("span", {class: "advantage"}, `advantage ${turn.advantage.toFixed(2)}`);
  if (advantage) advantage.style.background = tint(turn.advantage, strongest);
  const scores = Object.entries(turn.scores).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" ");
  return make("section", {class: chosen ? "turn chosen" : "turn"},
    make("div", {class: "chips"},
      make("span", {class: "round"}, `turn ${turn.number} ${mark(turn.correct)}`),
      buttons("quotes", turn.sources), buttons("quoted by", quoting(turns, index)), advantage,
      turn.value === null ? null : make("span", {}, `value ${turn.value.toFixed(2)}`),
      scores ? make("span", {}, scores) : null, make("span", {}, `${turn.tokens} tokens`),
      make("span", turn.status === "done" ? {} : {class: "bad"}, turn.status),
      turn.probe ? make("span", {}, "probe") : null,
      turn.writer === "policy" ? null : make("span", {}, `by ${turn.writer}`)),
    turn.carried ? make("p", {class: "carried"}, `carried${turn.cut ? " (cut)" : ""}: `, make("code", {}, turn.carried)) : null,
    make("pre", {}, ...written(turn)));
}

/** The text of a turn: plain, or with each token shaded by its log-prob where it was recorded. */
function written(turn) {
  if (!turn.pieces?.length) {
    return (turn.segments ?? [["policy", turn.text]]).map(([writer, text]) => (writer === "environment" ? given(text) : text));
  }
  return turn.pieces.map(([text, logprob]) => {
    if (logprob === null) return given(text);
    const piece = make("span", {class: "piece", title: `probability ${Math.exp(logprob).toPrecision(2)}`}, text);
    piece.style.background = `rgba(var(--down), ${(0.55 * Math.min(1, -logprob / FAINT)).toFixed(2)})`;
    return piece;
  });
}

/** Text that the environment wrote, such as the result of a tool. */
function given(text) {
  return make("span", {class: "tool", title: "not written by the model"}, text);
}

const add = (name, pairs) => form.elements[name].append(...pairs.map(([value, text]) => make("option", {value}, text)));
add("place", places);
add("beside", places);
add("term", data.terms.map((term) => [term, term]));
add("round", [...new Set(data.rollouts.flatMap((rollout) => rollout.turns.map((turn) => turn.round)))].sort((a, b) => a - b)
  .map((round) => [round, round]));
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  if (form.elements[name]) form.elements[name].value = value;
}
let waiting = 0;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, DELAY);
});
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
for (const [name, move] of [["back", -1], ["on", 1]]) {
  document.getElementById(name).addEventListener("click", () => {
    page += move;
    render();
    list.scrollIntoView();
  });
}
filter();
