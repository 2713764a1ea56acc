"use strict";
// One rollout: its graph, and the chosen turn after all turns that led to it. Tokens are shaded by their log-probs.

const FAINT = 5; // nats of surprise that get the darkest shade

/** Show a rollout in `view`; the first turn that the filters select is chosen. */
function show(view, rollout) {
  const {turns} = rollout;
  const test = turnTest();
  const matching = test && new Set([...turns.keys()].filter((index) => test(turns[index])));
  const wanted = matching && matching.size ? matching : new Set(rollout.leaves.map((turn) => turns.indexOf(turn)));
  let chosen = [...turns.keys()].find((index) => wanted.has(index)) ?? turns.length - 1;
  const frame = make("div", {class: "frame"});
  const panel = make("div", {class: "panel", "aria-live": "polite"});
  const redraw = () => {
    const {scrollLeft, scrollTop} = frame;
    frame.replaceChildren(graph(turns, frame.clientWidth, chosen, matching, choose));
    frame.scrollTo(scrollLeft, scrollTop);
    reveal(frame, frame.querySelector(".chosen"));
  };
  const write = () => {
    const led = [...lineage(turns, chosen)].sort((a, b) => a - b);
    panel.replaceChildren(...led.map((place) => section(turns, place, place === chosen, choose)));
  };
  const choose = (index, clicked) => {
    chosen = index;
    redraw();
    write();
    const below = frame.getBoundingClientRect().bottom <= panel.getBoundingClientRect().top;
    frame.querySelector(".chosen").focus({preventScroll: clicked && below});
    if (clicked && below) panel.lastChild.scrollIntoView({block: "nearest"});
  };
  if (turns.every((turn) => turn.round === 1)) view.classList.add("flat");
  view.append(...(turns.length > 1 ? [frame] : []), panel);
  redraw();
  write();
  let width = frame.clientWidth;
  new ResizeObserver(() => {
    if (frame.clientWidth === width) return;
    width = frame.clientWidth;
    const focused = frame.contains(document.activeElement);
    redraw();
    if (focused) frame.querySelector(".chosen").focus();
  }).observe(frame);
}

/** Scroll a frame, but not the page, until a node in it is seen. */
function reveal(frame, node) {
  const [outer, inner] = [frame, node].map((one) => one.getBoundingClientRect());
  const shift = (start, length, low, room) => Math.min(start - low, 0) || Math.max(start + length - low - room, 0);
  frame.scrollBy(shift(inner.left, inner.width, outer.left, frame.clientWidth),
    shift(inner.top, inner.height, outer.top, frame.clientHeight));
}

function section(turns, index, chosen, choose) {
  const turn = turns[index];
  const buttons = (label, places) => places.length === 0 ? null : make("span", {class: "links"}, `${label} `, ...places.map((place) =>
    make("button", {type: "button", class: "link", onclick: () => choose(place, true)}, turns[place].number)));
  const strongest = Math.max(...turns.map((one) => Math.abs(one.advantage ?? 0)));
  const advantage = turn.advantage === null ? null : make("span", {class: "advantage"}, signed(turn.advantage));
  if (advantage) advantage.style.background = tint(turn.advantage, strongest);
  return make("section", {class: chosen ? "turn chosen" : "turn"},
    make("div", {class: "chips"},
      make("span", {class: "round"}, `turn ${turn.number} ${mark(turn.correct)}`),
      buttons("quotes", turn.sources), buttons("quoted by", quoting(turns, index)), advantage,
      turn.value === null ? null : make("span", {}, `value ${turn.value.toFixed(2)}`),
      ...Object.entries(turn.scores).map(([name, value]) => make("span", {}, make("bdi", {}, name), ` ${value.toFixed(2)}`)),
      make("span", {}, `${turn.tokens} tokens`),
      make("span", turn.status === "done" ? {} : {class: "bad"}, turn.status),
      turn.probe ? make("span", {}, "probe") : null,
      turn.writer === "policy" ? null : make("span", {}, "by ", make("bdi", {}, turn.writer))),
    turn.carried ? make("p", {class: "carried"}, `carried${turn.cut ? " (cut)" : ""}: `, make("code", {}, turn.carried)) : null,
    ...(turn.pieces?.length ? shaded(turn.pieces) : [make("pre", {}, ...written(turn))]));
}

/** The text of a turn, with what the environment wrote set apart. */
function written(turn) {
  return (turn.segments ?? [["policy", turn.text]]).map(([writer, text]) => (writer === "environment" ? given(text) : text));
}

/**
 * The text of a turn with each token shaded by its log-prob, and a line about one token: the least probable one, or the
 * one that was reached with the pointer or, while the text has the focus, with the arrow keys.
 */
function shaded(pieces) {
  const own = pieces.filter(([, logprob]) => logprob !== null); // not written by the environment
  const note = make("p", {class: "carried"});
  const name = (label, [text, logprob]) => note.replaceChildren(`${label} `, make("bdi", {}, quoted(text)),
    `, probability ${Math.exp(logprob).toPrecision(2)}, log-prob ${logprob.toFixed(2)} nats`);
  const tokens = own.map(([text, logprob]) => {
    const token = make("span", {class: "piece"}, text);
    token.style.background = `rgba(var(--down), ${(0.55 * Math.min(1, -logprob / FAINT)).toFixed(2)})`;
    return token;
  });
  let at = -1;
  const point = (index) => {
    if (!tokens[index]) return;
    tokens[at]?.classList.remove("on");
    at = index;
    tokens[at].classList.add("on");
    name("token", own[at]);
  };
  const onpointer = (event) => point(tokens.indexOf(event.target));
  const onkeydown = (event) => {
    const next = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1};
    if (!Object.hasOwn(next, event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    point(next[event.key]);
    tokens[at]?.scrollIntoView({block: "nearest"});
  };
  if (own.length) name("least probable token:", own.reduce((one, other) => (other[1] < one[1] ? other : one)));
  let index = 0;
  const parts = pieces.map(([text, logprob]) => (logprob === null ? given(text) : tokens[index++]));
  return [make("pre", {tabindex: 0, role: "group", "aria-label": "text; the left and right arrow keys move along its tokens",
    onclick: onpointer, onpointerover: onpointer, onkeydown}, ...parts), note];
}

/** A text in quotation marks, with escapes in place of control characters, also those that change its direction. */
function quoted(text) {
  const escaped = (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/\p{Bidi_Control}/gu, escaped);
}

/** Text that the environment wrote, such as the result of a tool. */
function given(text) {
  return make("span", {class: "tool", title: "not written by the model"}, text);
}
