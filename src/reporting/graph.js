"use strict";
// The graph of one rollout as inline SVG: a column for each round, edges from each turn to the turns that its prompt
// quotes. Turns of one prompt share a joint (a dot), so four siblings that quote four drafts need eight edges, not 16.

const TOUCHED = matchMedia("(pointer: coarse)").matches; // fingers need larger nodes
const NODE = {height: TOUCHED ? 34 : 22, gap: 6, margin: 4, pad: 7, letter: 7.4, narrow: 44};
const GAP = {least: 12, most: 170, joint: 26}; // between columns, and from a joint to its turns

/** Make an HTML element. Children that are strings become text nodes, so text of a model is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an SVG element. The page's own <svg> names the namespace, so that the page holds no address. */
function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(document.querySelector("svg").namespaceURI, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** ✓, ✗, the share of right answers below a turn, or – without a verdict. */
function mark(correct) {
  if (correct === null) return "–";
  return correct >= 1 ? "✓" : correct <= 0 ? "✗" : `${Math.round(100 * correct)}%`;
}

/** + or −, the sign of an advantage; empty for one that rounds to 0.00 and for none. */
function sign(advantage) {
  const hundredths = Math.round(100 * (advantage ?? 0));
  return hundredths > 0 ? "+" : hundredths < 0 ? "−" : "";
}

function signed(advantage) {
  return `advantage ${sign(advantage)}${Math.abs(advantage).toFixed(2)}`;
}

/** The last two parts of a long turn number. The tooltip and the accessible label have the whole number. */
function short(number) {
  return number.length > 5 ? `…${number.split(".").slice(-2).join(".")}` : number;
}

/** Indices of the turns that led to a turn, itself included. */
function lineage(turns, index) {
  const found = new Set([index]);
  for (let place = turns.length - 1; place >= 0; place--) {
    if (found.has(place)) turns[place].sources.forEach((source) => found.add(source));
  }
  return found;
}

/** Indices of the turns that quote a turn. */
function quoting(turns, index) {
  return [...turns.keys()].filter((place) => turns[place].sources.includes(index));
}

/**
 * Boxes and labels of all turns in a width of `width` pixels. Turns are ordered by round, then by path. Columns are as
 * wide as their longest label. Numbers of turns are short where whole ones do not fit.
 */
function layout(turns, width) {
  const columns = [];
  turns.forEach((turn, index) => (columns[turn.round - 1] ??= []).push(index));
  const widths = (label) => columns.map((column) => {
    const letters = column.map((index) => turns[index])
      .map((turn) => `${label(turn.number)}${sign(turn.advantage)} ${mark(turn.correct)}`.length);
    return Math.max(NODE.narrow, Math.max(...letters) * NODE.letter + 2 * NODE.pad);
  });
  const room = (label) => {
    const used = widths(label).reduce((sum, one) => sum + one, 2 * NODE.margin);
    return (width - used) / Math.max(1, columns.length - 1);
  };
  const whole = (number) => number;
  const label = room(whole) >= GAP.least ? whole : short;
  const gap = Math.max(GAP.least, Math.min(GAP.most, room(label)));
  const height = Math.max(...columns.map((column) => column.length)) * (NODE.height + NODE.gap);
  const places = turns.map(() => null);
  let x = NODE.margin;
  widths(label).forEach((wide, number) => {
    columns[number].forEach((index, row) => {
      const y = ((row + 0.5) * height) / columns[number].length;
      places[index] = {x, y, width: wide, label: label(turns[index].number)};
    });
    x += wide + gap;
  });
  return {columns, places, gap, width: x - gap + NODE.margin, height};
}

/** Turns by prompt: the indices of the turns of each prompt after the first round. */
function prompts(turns) {
  const found = new Map();
  turns.forEach((turn, index) => {
    if (turn.sources.length) found.set(turn.prompt, [...(found.get(turn.prompt) ?? []), index]);
  });
  return [...found.values()];
}

function curve(from, to) {
  const middle = (from.x + to.x) / 2;
  return `M${from.x},${from.y}C${middle},${from.y} ${middle},${to.y} ${to.x},${to.y}`;
}

function edges(turns, places, gap, marked) {
  const drawn = [];
  const right = (index) => ({x: places[index].x + places[index].width, y: places[index].y});
  for (const members of prompts(turns)) {
    const sources = turns[members[0]].sources;
    const live = members.some((member) => marked.has(member));
    const edge = (from, to, on) => drawn.push(draw("path", {d: curve(from, to), class: on ? "edge on" : "edge"}));
    if (members.length === 1 && sources.length === 1) {
      edge(right(sources[0]), places[members[0]], live);
      continue;
    }
    const y = members.reduce((sum, member) => sum + places[member].y, 0) / members.length;
    const joint = {x: places[members[0]].x - Math.min(GAP.joint, gap / 2), y};
    sources.forEach((source) => edge(right(source), joint, live));
    members.forEach((member) => edge(joint, places[member], marked.has(member)));
    drawn.push(draw("circle", {cx: joint.x, cy: joint.y, r: 3, class: live ? "joint on" : "joint"}));
  }
  return drawn.sort((a, b) => a.classList.contains("on") - b.classList.contains("on"));
}

function described(turns, turn) {
  const quoted = turn.sources.map((source) => turns[source].number).join(", ");
  const verdict = {"✓": "right", "✗": "wrong", "–": "no verdict"}[mark(turn.correct)] ?? `${mark(turn.correct)} right`;
  const weight = turn.advantage === null ? [] : [signed(turn.advantage)];
  return [`turn ${turn.number}`, quoted ? `quotes ${quoted}` : "quotes no turn", verdict, ...weight].join(", ");
}

/** Colour of an advantage: blue if positive, orange if negative; `strongest` scales the opacity. */
function tint(advantage, strongest) {
  if (!advantage) return "var(--box)";
  return `rgba(var(--${advantage > 0 ? "up" : "down"}), ${(0.15 + 0.45 * Math.abs(advantage) / strongest).toFixed(2)})`;
}

/**
 * Draw the graph. `chosen` is the index of the shown turn and `matching` holds the turns that the filters select, or
 * null. `choose(index, clicked)` is called when a turn is clicked or reached with the arrow keys.
 */
function graph(turns, width, chosen, matching, choose) {
  const {columns, places, gap, width: total, height} = layout(turns, width);
  const marked = lineage(turns, chosen);
  const strongest = Math.max(...turns.map((turn) => Math.abs(turn.advantage ?? 0)));
  const nodes = turns.map((turn, index) => {
    const kinds = ["node", marked.has(index) && "on", index === chosen && "chosen", turn.advantage === null && "idle",
      turn.status === "pruned" && "pruned", matching && !matching.has(index) && "faint"].filter(Boolean);
    const {x, y, width: wide, label} = places[index];
    const box = {x, y: y - NODE.height / 2, width: wide, height: NODE.height, rx: 5};
    const rectangle = draw("rect", box);
    rectangle.style.fill = tint(turn.advantage, strongest);
    return draw("g",
      {class: kinds.join(" "), tabindex: index === chosen ? 0 : -1, role: "button", "data-turn": index,
        "aria-pressed": String(index === chosen), "aria-label": described(turns, turn), onclick: () => choose(index, true)},
      draw("title", {}, described(turns, turn)), rectangle,
      draw("text", {x: x + NODE.pad, y: y + 4}, label + sign(turn.advantage)),
      draw("text", {x: x + wide - NODE.pad, y: y + 4, "text-anchor": "end"}, mark(turn.correct)));
  });
  const round = turns[chosen].round - 1;
  const row = columns[round].indexOf(chosen);
  const next = {
    ArrowUp: columns[round][row - 1], ArrowDown: columns[round][row + 1], Home: 0, End: turns.length - 1,
    ArrowLeft: turns[chosen].sources[0], ArrowRight: quoting(turns, chosen)[0],
  };
  const onkeydown = (event) => {
    if (!Object.hasOwn(next, event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (next[event.key] !== undefined) choose(next[event.key], false);
  };
  return draw("svg", {width: total, height, viewBox: `0 0 ${total} ${height}`, class: "graph", role: "group", onkeydown,
    "aria-label": `graph of ${turns.length} turns; arrow keys move along and across rounds`},
  ...edges(turns, places, gap, marked), ...nodes);
}
