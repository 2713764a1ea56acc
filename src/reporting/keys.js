"use strict";
// Keys of the page: j and k open the next and the previous rollout, n and p turn the page, / goes to the search.

/** Close the rollout that is open last, and open the one `move` places below it. */
function step(move) {
  const entries = [...list.children];
  const open = entries.findLastIndex((entry) => entry.open);
  const next = entries[open + move];
  if (!next) return;
  if (open >= 0) entries[open].open = false;
  next.open = true;
  next.firstChild.focus();
  next.scrollIntoView({block: "nearest"});
}

const KEYS = {
  j: () => step(1), k: () => step(-1), n: () => document.getElementById("on").click(),
  p: () => document.getElementById("back").click(), "/": () => form.elements.words.focus(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, select");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
