// Asks the server about a photo, and shows what it says. Nothing is written as HTML: names and emojis are other people's.
"use strict";

const by = id => document.getElementById(id);
const NUMBERS = ["top_k", "samples", "seed"];
const TYPE = "application/octet-stream";
let photo = null, given = [], model = null, names = new Map(), token = "", asking = new AbortController();

const make = (kind, properties = {}, ...inside) => {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...inside);
  return made;
};
const percent = p => `${(100 * p).toFixed(1)} %`;
const nameOf = emoji => names.get(emoji) ?? emoji;
const told = text => { by("told").textContent = ""; requestAnimationFrame(() => { by("told").textContent = text; }); };
const emojisIn = text => [...new Intl.Segmenter().segment(text)].map(each => each.segment).filter(each => each.trim() && !/^[,;]$/.test(each));

function parameters() {
  const fields = by("settings").elements, found = new URLSearchParams();
  for (const name of NUMBERS)
    if (fields[name].value !== "" && fields[name].value !== fields[name].defaultValue) found.append(name, fields[name].value);
  emojisIn(fields.deny.value).forEach(each => found.append("deny", each));
  given.forEach(each => found.append("given", each));
  return found;
}

function question() {
  const found = parameters();
  if (model?.readings) found.append("readings", "true");
  return new URL(`v1/ask?${found}`, location.href.split("#")[0]);
}

function showLine() {
  const secret = by("token").dataset.needed === "yes" ? ` \\\n  -H "Authorization: Bearer $EMOJIGAN_TOKEN"` : "";
  by("curl").textContent = `curl --data-binary @photo.jpg -H 'Content-Type: ${TYPE}'${secret} \\\n  '${question()}'`;
  history.replaceState(null, "", `#${parameters()}`);
}

async function answered(path, options = {}) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));  // as curl sends it, whatever is in it
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${bytes}` }) };
  const response = await fetch(path, { ...options, headers });
  const content = await response.json();
  if (response.status === 401) askForToken(token ? "That is not the token of this server." : "");
  if (!response.ok) throw new Error(content.error);
  return content;
}

function askForToken(why) {
  by("token").hidden = false;
  by("asked").inert = true;
  by("secret").focus();
  if (why) by("mode").textContent = why;
}

async function ask() {
  showLine();
  if (!photo || !model) return;
  asking.abort();
  asking = new AbortController();
  by("answer").setAttribute("aria-busy", "true");
  try {
    const { answers, model: now } = await answered(question(), { method: "POST", body: photo, headers: { "Content-Type": TYPE }, signal: asking.signal });
    if (now.digest !== model.digest) return await meet();  // another took its place, with other emojis maybe
    show(answers[0]);
  } catch (error) {
    if (error.name === "AbortError") return;
    clear(error instanceof TypeError ? "The server does not answer." : error.message);
  }
  by("answer").setAttribute("aria-busy", "false");
}

function clear(words) {
  by("mode").textContent = words;
  for (const id of ["emojis", "completion", "readings"]) by(id).replaceChildren();
  for (const id of ["hint", "added", "read"]) by(id).hidden = true;
}

function show(answer) {
  by("mode").replaceChildren(...mode(answer));
  const focused = document.activeElement?.dataset?.emoji;
  const most = Math.max(...answer.emojis.map(each => each.high), ...(answer.completion ?? []).map(each => each.p));
  by("emojis").replaceChildren(...answer.emojis.map(each => bar(each, most, model.completion)));
  if (focused) by("emojis").querySelector(`[data-emoji="${CSS.escape(focused)}"]`)?.focus();
  by("hint").hidden = !model.completion;
  by("added").hidden = !answer.completion;
  by("added-title").replaceChildren("Who writes ", ...given.map(choice), " adds");
  by("completion").replaceChildren(...(answer.completion ?? []).map(each => bar(each, most, false)));
  by("read").hidden = !answer.readings?.length;
  by("readings").replaceChildren(...(answer.readings ?? []).map(reading));
}

function mode({ likeliest, latents, emojis }) {
  if (likeliest.length === 1) {
    const [first] = emojis;
    const interval = `${Math.round(100 * first.low)} to ${Math.round(100 * first.high)}`;
    return ["Mostly ", drawn(first.emoji), `: ${Math.round(100 * first.p)} % of what people write (${interval})`];
  }
  const named = likeliest.slice(0, 4).flatMap(each => [drawn(each), " "]);
  return ["No mode: ", ...named, `${likeliest.length > 4 ? "and others " : ""}are not told apart by ${latents.toLocaleString("en")} latents`];
}

const drawn = emoji => {
  const made = make("span", { className: "emoji", textContent: emoji, title: nameOf(emoji), role: "img" });
  made.setAttribute("aria-label", nameOf(emoji));
  return made;
};

function choice(emoji) {
  const button = make("button", { type: "button", className: "emoji", textContent: emoji, title: nameOf(emoji) });
  button.dataset.emoji = emoji;
  button.setAttribute("aria-label", `${nameOf(emoji)}: what people add to it`);
  button.setAttribute("aria-pressed", given.includes(emoji));
  button.addEventListener("click", () => {
    given = given.includes(emoji) ? given.filter(each => each !== emoji) : [...given, emoji];
    ask();
  });
  return button;
}

function bar({ emoji, p, low, high }, most, asks) {
  const picture = asks ? choice(emoji) : drawn(emoji);
  const drawing = make("div", { className: "bar" }, make("i"));
  drawing.setAttribute("aria-hidden", "true");
  drawing.style.setProperty("--p", `${100 * p / most}%`);
  if (high !== undefined) {
    drawing.append(make("b"));
    drawing.style.setProperty("--low", `${100 * low / most}%`);
    drawing.style.setProperty("--high", `${100 * high / most}%`);
  }
  const number = make("span", { className: "number", textContent: percent(p) });
  if (high !== undefined) number.append(make("span", { className: "hidden", textContent: `, between ${percent(low)} and ${percent(high)}` }));
  return make("li", {}, picture, make("span", { className: "name", textContent: nameOf(emoji) }), drawing, number);
}

function reading({ share, emojis }) {
  const said = emojis.slice(0, 5).flatMap(each => [drawn(each.emoji), make("small", { textContent: ` ${Math.round(100 * each.p)} % ` })]);
  return make("li", {}, make("b", { textContent: `${Math.round(100 * share)} %` }), make("span", { className: "hidden", textContent: " see it as " }), make("span", {}, ...said));
}

function take(file) {
  if (!file) return;
  photo = file;
  const most = Number(by("asked").dataset.most);
  if (by("photo").src) URL.revokeObjectURL(by("photo").src);
  by("photo").src = URL.createObjectURL(file);
  by("photo").hidden = false;
  by("invitation").hidden = true;
  if (file.size > most) {
    photo = null;
    clear(`That photo has ${(file.size / 1e6).toFixed(1)} MB, and this server takes ${(most / 1e6).toFixed(1)}.`);
    return;
  }
  by("mode").textContent = "Asking …";
  ask();
}

async function openCamera() {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) return by("camera").click();
  try {
    by("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    by("viewfinder").showModal();
  } catch {
    clear("There is no camera here, or this page may not use it.");
  }
}

function shoot() {
  const canvas = make("canvas", { width: by("video").videoWidth, height: by("video").videoHeight });
  canvas.getContext("2d").drawImage(by("video"), 0, 0);
  canvas.toBlob(file => { by("viewfinder").close(); take(file); }, "image/jpeg", 0.95);
}

async function meet() {
  model = await answered("v1/model");
  names = new Map(model.vocabulary.map(each => [each.emoji, each.name]));
  given = given.filter(each => model.completion && names.has(each));
  by("token").hidden = true;
  by("asked").inert = false;
  by("about").hidden = !model.card && !model.warning;
  by("warning").textContent = model.warning ?? "";
  by("card").hidden = !model.card;
  by("card-text").textContent = model.card ?? "";
  const scores = Object.entries(model.scores).map(([key, value]) => `${key === "nll" ? "negative log-likelihood" : key} ${value.toFixed(3)}`);
  const facts = { Model: model.name, Digest: model.digest, "On validation posts": scores.join(", ") || "not scored", "Emojis that it knows": model.vocabulary.length.toLocaleString("en"), "Steps of training": model.step.toLocaleString("en"), Dataset: model.dataset };
  by("facts").replaceChildren(...Object.entries(facts).flatMap(([key, value]) => [make("dt", { textContent: key }), make("dd", { textContent: value })]));
  await ask();
}

function listen() {
  by("file").addEventListener("change", event => take(event.target.files[0]));
  by("camera").addEventListener("change", event => take(event.target.files[0]));
  by("take").addEventListener("click", openCamera);
  by("shoot").addEventListener("click", shoot);
  by("leave").addEventListener("click", () => by("viewfinder").close());
  by("viewfinder").addEventListener("close", () => by("video").srcObject?.getTracks().forEach(each => each.stop()));
  by("photo").addEventListener("error", () => { by("photo").hidden = true; by("invitation").hidden = false; });
  document.addEventListener("dragover", event => { event.preventDefault(); by("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => by("drop").classList.remove("over"));
  document.addEventListener("drop", event => { event.preventDefault(); by("drop").classList.remove("over"); take(event.dataTransfer.files[0]); });
  document.addEventListener("paste", event => take([...event.clipboardData.files].find(each => each.type.startsWith("image/"))));
  document.querySelectorAll(".try").forEach(each => each.addEventListener("click", async () => take(await (await fetch(`examples/${each.dataset.number}`)).blob())));
  by("settings").addEventListener("change", ask);
  by("settings").addEventListener("submit", event => event.preventDefault());
  by("link").addEventListener("click", () => copy(location.href, "The link is copied."));
  by("copy").addEventListener("click", () => copy(by("curl").textContent, "The line is copied."));
  by("token").addEventListener("submit", event => { event.preventDefault(); token = by("secret").value; start(); });
}

async function copy(text, words) {
  await navigator.clipboard.writeText(text);
  told(words);
}

function recall() {
  const found = new URLSearchParams(location.hash.slice(1)), fields = by("settings").elements;
  for (const name of NUMBERS) if (found.has(name)) fields[name].value = found.get(name);
  fields.deny.value = found.getAll("deny").join(" ");
  given = found.getAll("given");
}

const start = () => meet().catch(error => { if (by("token").hidden) clear(`The server does not answer: ${error.message}`); });

recall();
listen();
start();
