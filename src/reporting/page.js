"use strict";
// The list of rollouts: paging, comparison of two sets of rollouts on the same problems, and the start of the page.

const PER_PAGE = 20;
const DELAY = 120; // milliseconds between typing and filtering
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list");
const places = data.places.map((place) => [place.name, `${place.where} · ${place.letter}: ${place.run}`]);
const holders = new Map(); // of each problem: the places that hold rollouts of it
let shown = [];
let page = 0;

for (const rollout of data.rollouts) {
  rollout.key = `${rollout.id}\n${rollout.question}`;
  if (!holders.has(rollout.key)) holders.set(rollout.key, new Set());
  holders.get(rollout.key).add(rollout.place);
  const quoted = new Set(rollout.turns.flatMap((turn) => turn.sources));
  rollout.leaves = rollout.turns.filter((turn, index) => !turn.probe && !quoted.has(index));
  rollout.correct = mean(rollout.leaves);
}

function filter() {
  settle();
  remember();
  const fits = rolloutTest();
  const [place, beside] = [placeOf("place"), placeOf("beside")];
  const of = (index) => data.rollouts.filter((rollout) => index === null || rollout.place === index);
  page = 0;
  if (beside === null) {
    shown = of(place).filter(fits).map((rollout) => [[rollout]]);
  } else {
    const [left, right] = [place, beside].map((index) => Map.groupBy(of(index), (rollout) => rollout.key));
    shown = [...left].filter(([key]) => right.has(key)).map(([key, some]) => [some, right.get(key)])
      .filter((sides) => sides.flat().some(fits))
      .filter((sides) => form.elements.result.value !== "changed" || mean(sides[0]) !== mean(sides[1]));
  }
  render();
}

/** Mean verdict of turns or rollouts; null if none has one. */
function mean(some) {
  const scored = some.map((one) => one.correct).filter((value) => value !== null);
  return scored.length ? scored.reduce((sum, value) => sum + value, 0) / scored.length : null;
}

function percent(value) {
  return value === null ? "no verdict" : `${Math.round(100 * value)} % right`;
}

/** Show a page of the list, with one entry open. */
function render(opened = page * PER_PAGE) {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  const some = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  const compared = placeOf("beside") !== null;
  const share = compared
    ? [0, 1].map((side) => percent(mean(shown.flatMap((sides) => sides[side])))).join(" → ")
    : percent(mean(shown.flat(2)));
  const what = compared ? "problems in both" : `of ${data.rollouts.length} rollouts`;
  document.getElementById("status").textContent = `${shown.length} ${what}, ${share}; page ${page + 1} of ${pages}`;
  document.getElementById("back").disabled = page === 0;
  document.getElementById("on").disabled = page + 1 >= pages;
  list.replaceChildren(...some.map(entry));
  if (some.length) list.children[opened - page * PER_PAGE].open = true;
}

function entry(sides) {
  const [first] = sides[0];
  const place = data.places[first.place];
  const about = sides.length > 1
    ? sides.map((side) => percent(mean(side))).join(" → ")
    : `${percent(first.correct)} · ${place.where}${first.step === null ? "" : ` ${first.step}`} · ${place.letter}, seed ${place.seed}`;
  const box = make("details", {class: "rollout"},
    make("summary", {}, make("span", {class: "problem"}, first.question), " ",
      make("span", {class: "soft", title: place.run}, about)));
  box.addEventListener("toggle", () => {
    if (!box.open || box.childElementCount > 1) return;
    const columns = make("div", {class: sides.length > 1 ? "sides" : ""});
    box.append(make("p", {class: "carried"}, "answer ", make("code", {}, first.answer), ", problem ", make("bdi", {}, first.id)),
      ...(sides.length > 1 ? [] : [elsewhere(first)]), columns);
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

/** A choice of the other places that hold the same problem, to compare it; empty if there are none. */
function elsewhere(rollout) {
  const others = [...holders.get(rollout.key)].filter((place) => place !== rollout.place);
  const select = make("select", {onchange: () => compare(rollout, select.value)}, make("option", {value: ""}, "…"));
  offer(select, others.map((place) => places[place]));
  return others.length ? make("label", {}, "Compare this problem with", select) : "";
}

/**
 * The place to compare with a place: the same evaluation before or after training, whose name has another end only;
 * else the first place that has the same problems.
 */
function partner(beside) {
  const stem = (name) => name.slice(0, name.lastIndexOf("."));
  const right = data.places.findIndex((place) => place.name === beside);
  const others = [...data.places.keys()].filter((index) => index !== right);
  const common = (index) => [...holders.values()].some((held) => held.has(index) && held.has(right));
  const found = others.find((index) => stem(data.places[index].name) === stem(beside)) ?? others.find(common) ?? others[0];
  return data.places[found].name;
}

/** Show the rollout's place beside another one, at the rollout's problem. */
function compare(rollout, beside) {
  clear();
  form.elements.place.value = data.places[rollout.place].name;
  form.elements.beside.value = beside;
  filter();
  const index = shown.findIndex(([[first]]) => first.key === rollout.key);
  page = Math.floor(index / PER_PAGE);
  render(index);
  list.children[index % PER_PAGE].firstChild.focus();
}

function turnPage(move) {
  page += move;
  render();
  list.scrollIntoView();
}

offer(form.elements.place, places);
if (places.length > 1) offer(form.elements.beside, places);
else form.elements.beside.disabled = true;
offer(form.elements.term, data.terms.map((term) => [term, term]));
offer(form.elements.round, [...new Set(data.rollouts.flatMap((rollout) => rollout.turns.map((turn) => turn.round)))]
  .sort((a, b) => a - b).map((round) => [round, round]));
recall();
let waiting = 0;
form.addEventListener("input", () => {
  document.getElementById("ignored").textContent = "";
  clearTimeout(waiting);
  waiting = setTimeout(filter, DELAY);
});
form.addEventListener("reset", () => setTimeout(() => {
  clear();
  filter();
}));
addEventListener("hashchange", () => {
  recall();
  filter();
});
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("back").addEventListener("click", () => turnPage(-1));
document.getElementById("on").addEventListener("click", () => turnPage(1));
filter();
