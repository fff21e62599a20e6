// The page: which models there are, which one is asked, and the key where one is needed.

import { desk } from "./desk.js";
import { el } from "./dom.js";
import { watch } from "./live.js";
import { nameOf, read, useKey } from "./service.js";

const LONGEST_WAIT_MS = 30_000;

const byId = (id) => document.getElementById(id);
let tasks = new Map(); // by name: what each task's module exports, in the order of the service
const desks = new Map(); // by name/version: what was typed stays when another model is looked at
let chosen = "";

const page = {
  maxItems: 1, // of a request, once the service has said so
  models: [],
  say(sentence) {
    byId("said").textContent = sentence;
  },
  needKey() {
    byId("key").hidden = false;
    byId("key-input").focus();
  },
};

function choose(model) {
  const name = `${model.name}/${model.version}`;
  if (!desks.has(name)) desks.set(name, deskOf(model));
  chosen = name;
  byId("desk").replaceChildren(desks.get(name));
}

function deskOf(model) {
  const task = tasks.get(model.task);
  const plain = () => desk(model, task, page);
  return task.desk ? task.desk(model, page, plain) : plain();
}

function choice(model, isChosen) {
  const input = el("input", { type: "radio", name: "model", value: nameOf(model), checked: isChosen, onchange: () => choose(model) });
  const words = el("span", { class: "task" }, tasks.get(model.task).words, model.state === "down" ? ", its engine is down" : "");
  return el("label", { class: "model" }, input, el("span", { class: "name" }, nameOf(model)), words);
}

function list(models) {
  const order = [...tasks.keys()]; // the simplest first
  page.models = models;
  for (const node of desks.values()) node.refresh();
  const usable = models.filter((entry) => tasks.has(entry.task)).sort((entry, other) => order.indexOf(entry.task) - order.indexOf(other.task) || other.default - entry.default);
  const still = usable.find((entry) => `${entry.name}/${entry.version}` === chosen) ?? usable[0];
  byId("models").replaceChildren(el("legend", {}, "Model"), ...usable.map((entry) => choice(entry, entry === still)));
  byId("models").hidden = usable.length === 0;
  if (still && `${still.name}/${still.version}` !== chosen) choose(still);
  return usable.length;
}

function notice(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = words === "";
}

/** The modules of the tasks that the service has; README.md beside this file says what they export. */
async function loadTasks() {
  const described = Object.entries(JSON.parse(await read("static/tasks.json")));
  const modules = await Promise.all(described.map(([name]) => import(`../tasks/${name}.js`)));
  tasks = new Map(described.map(([name, columns], index) => [name, { ...modules[index].default, ...columns }]));
}

/** Show what is loaded, and look again, ever more rarely, until all of it is. */
async function start(waitMs = 1000) {
  const later = () => setTimeout(() => start(Math.min(2 * waitMs, LONGEST_WAIT_MS)), waitMs);
  try {
    if (!tasks.size) await loadTasks();
    const { models, failed = [], limits } = JSON.parse(await read("v1/models"));
    page.maxItems = limits?.max_items ?? 1;
    const count = list(models);
    const broken = failed.map((entry) => `${entry.model} could not be loaded: ${entry.detail}.`);
    notice([...(count ? [] : ["No model is loaded yet. This page shows them as soon as they are."]), ...broken].join(" "));
    await read("health/ready");
    if (!count) later();
  } catch (error) {
    if (error.status === 401) {
      notice("");
      page.needKey();
      if (byId("key-input").value) notice(error.message);
      return; // the key's form starts it again
    }
    if (!chosen) notice(`${error.message} ${error.detail ?? ""}`);
    later();
  }
}

byId("key").addEventListener("submit", async (event) => {
  event.preventDefault();
  useKey(byId("key-input").value.trim());
  byId("key").hidden = true;
  await start();
});
start();
watch(byId("charts"), byId("live-state"));
