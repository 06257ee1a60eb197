// The start page: it asks the management API each second and shows the answers. Everything from outside becomes text, never markup.
import { chooseLanguage, loadWords } from "/static/wording.js";

const POLL_MS = 1000;
const SHOWN_MAX = 8;
const ICONS = { good: "✓", bad: "✗", warm: "!" };
const DELIVERY_TONES = { delivered: "good", dead: "bad", denied: "warm", unknown: "warm", pending: "", cancelled: "" };

const byId = (id) => document.getElementById(id);
const language = chooseLanguage(navigator.languages);
const numbers = new Intl.NumberFormat(language, { maximumFractionDigits: 6 });
const moments = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const spans = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

let words;
let csrfToken = null;
let timer = null;
let sources = new Map();
let segments = [];
const shown = new Map();
const person = { ref: "", answer: null, explained: new Map() };

class Told extends Error {
  // A problem as the API tells it, or what stands for one when there was no answer at all.
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
    this.status = problem.status;
  }
}

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (options.method && csrfToken) headers["X-CSRF-Token"] = csrfToken;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Told({ title: words.text("lost_title"), detail: words.text("lost_text"), status: 0 });
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Told({ title: response.statusText, detail: "", ...body, status: response.status });
  return body;
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, action] of Object.entries(value)) node.addEventListener(event, action);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

function ago(text) {
  const seconds = (new Date(text).getTime() - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= length) return spans.format(Math.round(seconds / length), unit);
  }
  return spans.format(Math.min(0, Math.round(seconds)), "second");
}

function when(text) {
  return make("time", { datetime: text, title: moments.format(new Date(text)) }, ago(text));
}

function tag(tone, text) {
  return make("span", { class: `tag ${tone}` }, ICONS[tone] ? make("span", { "aria-hidden": "true" }, ICONS[tone]) : null, text);
}

function spell(value) {
  if (value === null || value === undefined) return words.text("nothing");
  if (typeof value === "number") return numbers.format(value);
  if (typeof value === "boolean") return words.text(value ? "yes" : "no");
  return typeof value === "string" ? value : JSON.stringify(value);
}

function nameOf(definition) {
  const { name } = definition;
  return typeof name === "string" ? name : name[language] || name.en || Object.values(name)[0] || definition.key;
}

function segmentName(key) {
  const known = segments.find((segment) => segment.key === key);
  return known ? nameOf(known) : key;
}

function profileButton(profileId, place) {
  const open = () => {
    byId("person-ref").value = profileId;
    lookUp(profileId, true);
  };
  const label = words.text("open_person", { id: profileId });
  const short = `${profileId.slice(0, 12)}…`;
  return make("button", { type: "button", class: "id", "aria-label": label, "data-key": `${place} ${profileId}`, on: { click: open } }, short);
}

// Replace a part of the page only if its data changed, and give the focus back to the same thing.
function show(id, data, build) {
  const text = JSON.stringify(data);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  const place = byId(id);
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...[build(data)].flat());
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function empty(word) {
  return make("p", { class: "empty" }, words.text(word));
}

function buildCounts(status) {
  const entry = (word, value, alarm = false) =>
    make("div", { class: alarm ? "alarm" : null }, make("dt", {}, words.text(word)), make("dd", {}, value));
  const lag = new Intl.NumberFormat(language, { maximumFractionDigits: status.lag_seconds < 10 ? 1 : 0 });
  return [
    entry("accepted", numbers.format(status.accepted)),
    entry("applied", numbers.format(status.applied)),
    entry("duplicates", numbers.format(status.duplicates)),
    entry("quarantined", numbers.format(status.quarantined), status.quarantined > 0),
    entry("warehoused", numbers.format(status.warehoused)),
    entry("lag", `${lag.format(status.lag_seconds)} s`, status.lag_seconds > 5),
  ];
}

function meter(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("viewBox", "0 0 100 5");
  svg.setAttribute("preserveAspectRatio", "none");
  bar.setAttribute("height", "5");
  bar.setAttribute("width", String(Math.max(share * 100, share > 0 ? 1 : 0)));
  svg.append(bar);
  return make("div", { class: "meter", "aria-hidden": "true" }, svg);
}

function buildSegments(items) {
  if (!items.length) return empty("no_segments");
  const largest = Math.max(1, ...items.map((item) => item.member_count ?? 0));
  return make(
    "ul",
    { class: "list" },
    items.map((item) =>
      make(
        "li",
        {},
        make(
          "div",
          { class: "line" },
          make("span", { class: "segment-name" }, nameOf(item)),
          make("span", { class: "mono hint" }, item.key),
          make("span", { class: "size push" }, words.count("people", item.member_count ?? 0, numbers)),
        ),
        make("p", { class: "sentence" }, item.sentence),
        meter((item.member_count ?? 0) / largest),
      ),
    ),
  );
}

function buildMovements(items) {
  if (!items.length) return empty("no_movements");
  return make(
    "ol",
    { class: "list" },
    items.map((item) => {
      const entered = item.type === "segment.entered";
      return make(
        "li",
        {},
        make(
          "div",
          { class: "line" },
          make("span", { class: `tag ${entered ? "good" : ""}` }, make("span", { "aria-hidden": "true" }, entered ? "→" : "←"), words.text(entered ? "entered" : "exited")),
          make("span", { class: "segment-name" }, segmentName(item.segment)),
          make("span", { class: "push" }, when(item.at)),
        ),
        profileButton(item.profile_id, `movement ${item.position} ${item.segment}`),
      );
    }),
  );
}

function buildDeliveries(items) {
  if (!items.length) return empty("no_deliveries");
  return make(
    "ol",
    { class: "list" },
    items.map((item) =>
      make(
        "li",
        {},
        make(
          "div",
          { class: "line" },
          tag(DELIVERY_TONES[item.state] ?? "", words.text(`state_${item.state}`)),
          make("span", { class: "segment-name" }, item.destination),
          make("span", { class: "push" }, when(item.updated_at ?? item.created_at)),
        ),
        make(
          "p",
          { class: "sentence" },
          [words.text(item.type === "segment.entered" ? "entered" : "exited"), segmentName(item.segment)].join(" "),
          " · ",
          words.count("attempts", item.attempts, numbers),
          item.code ? ` · ${item.code}` : "",
        ),
        retryButton(item),
      ),
    ),
  );
}

function retryButton(item) {
  if (item.state !== "dead" && item.state !== "unknown") return null;
  const retry = async () => {
    try {
      await ask(`/api/deliveries/${encodeURIComponent(item.delivery_id)}/retry`, { method: "POST" });
      say(words.text("retried"));
    } catch (error) {
      tell(error);
    }
  };
  return make("button", { type: "button", class: "quiet", "data-key": `retry ${item.delivery_id}`, on: { click: retry } }, words.text("retry"));
}

function table(heads, rows, captionWord) {
  return make(
    "table",
    { class: "stack" },
    make("caption", { class: "unseen" }, words.text(captionWord)),
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, words.text(head))))),
    make("tbody", {}, rows),
  );
}

function buildPerson({ answer, explained }) {
  if (!answer) return [];
  const identifiers = answer.identifiers.map((item) =>
    make("tr", {}, make("td", { class: "name" }, item.namespace), make("td", { class: "value" }, item.value), make("td", { class: "source" }, when(item.first_seen_at))),
  );
  const traits = answer.traits.map((item) =>
    make("tr", {}, make("td", { class: "name" }, item.name), make("td", { class: "value" }, spell(item.value)), make("td", { class: "source hint" }, provenance(item), " ", item.observed_at ? when(item.observed_at) : null)),
  );
  return make(
    "div",
    { class: "person" },
    make(
      "div",
      { class: "person-head" },
      make("span", { class: "mono" }, answer.profile_id),
      make("span", { class: "when" }, words.text("last_seen"), " ", when(answer.last_seen_at)),
      answer.also_known_as.length ? make("span", { class: "when" }, words.text("also_known_as"), " ", make("span", { class: "mono" }, answer.also_known_as.join(", "))) : null,
    ),
    make("div", {}, make("h3", {}, words.text("identifiers")), identifiers.length ? table(["namespace", "value", "first_seen"], identifiers, "identifiers") : empty("no_identifiers")),
    make("div", {}, make("h3", {}, words.text("traits")), traits.length ? table(["trait", "value", "said_by"], traits, "traits") : empty("no_traits")),
    make("div", {}, make("h3", {}, words.text("memberships")), buildMemberships(answer, explained)),
  );
}

function provenance(trait) {
  if (trait.kind === "computed") return words.text("computed");
  return sources.get(trait.source_id) ?? trait.source_id;
}

function buildMemberships(answer, explained) {
  const open = new Map(answer.memberships.filter((item) => !item.exited_at).map((item) => [item.segment, item]));
  const keys = [...new Set([...open.keys(), ...segments.filter((segment) => segment.state === "active").map((segment) => segment.key)])];
  if (!keys.length) return empty("no_segments");
  return make(
    "ul",
    { class: "list" },
    keys.map((key) => {
      const membership = open.get(key);
      const panel = `why-${key}`;
      const explanation = explained[key];
      const why = make(
        "button",
        { type: "button", class: "quiet push", "data-key": `why ${key}`, "aria-expanded": String(Boolean(explanation)), "aria-controls": panel, "aria-label": words.text("why_label", { segment: segmentName(key) }), on: { click: () => toggleWhy(key) } },
        words.text("why"),
      );
      return make(
        "li",
        {},
        make("div", { class: "line" }, tag(membership ? "good" : "", words.text(membership ? "member" : "not_member")), make("span", { class: "segment-name" }, segmentName(key)), membership ? when(membership.entered_at) : null, why),
        make("div", { id: panel }, explanation ? buildExplanation(explanation) : null),
      );
    }),
  );
}

function buildExplanation(explanation) {
  return make(
    "ul",
    { class: "conditions" },
    explanation.conditions.map((item) =>
      make("li", {}, tag(item.met ? "good" : "bad", words.text(item.met ? "met" : "not_met")), make("span", {}, item.condition), make("span", { class: "found" }, words.text("found"), " ", spell(item.value))),
    ),
  );
}

// What is new in every answer, though nothing changed, would build the card anew each second.
function steady(answer) {
  const traits = answer.traits.map((trait) => (trait.kind === "computed" ? { ...trait, observed_at: null } : trait));
  return { ...answer, traits, as_of: null };
}

async function toggleWhy(key) {
  if (person.explained.has(key)) person.explained.delete(key);
  else await explain(key).catch(tell);
  showPerson();
}

async function explain(key) {
  const answer = await ask(`/api/profiles/${encodeURIComponent(person.ref)}/explain?segment=${encodeURIComponent(key)}`);
  person.explained.set(key, { ...answer, as_of: null });
}

function showPerson() {
  const data = { answer: person.answer, explained: Object.fromEntries(person.explained), known: segments.map((item) => [item.key, item.name, item.state]), sources: [...sources] };
  show("person", data, buildPerson);
}

async function lookUp(ref, scroll) {
  byId("person-problem").textContent = "";
  try {
    const answer = await ask(`/api/profiles/${encodeURIComponent(ref)}`);
    Object.assign(person, { ref: answer.profile_id, answer: steady(answer), explained: new Map() });
    history.replaceState(null, "", `#${answer.profile_id}`);
    await refreshSources();
    showPerson();
    say(words.text("found_person", { id: answer.profile_id }));
    if (scroll) byId("person-title").scrollIntoView({ block: "center" });
  } catch (error) {
    if (error.status === 401) return signedOut();
    Object.assign(person, { ref: "", answer: null, explained: new Map() });
    showPerson();
    byId("person-problem").textContent = [sentence(error), ...(error.problem?.candidates ?? [])].join(" ");
  }
}

async function refreshPerson() {
  if (!person.ref) return;
  const { ref } = person;
  const answer = await ask(`/api/profiles/${encodeURIComponent(ref)}`);
  await Promise.all([...person.explained.keys()].map(explain));
  if (person.ref === ref) person.answer = steady(answer);
}

function sentence(error) {
  const { title = String(error), detail = "", next = "" } = error.problem ?? {};
  return [title && `${title}.`, detail, next].filter(Boolean).join(" ");
}

function say(text) {
  byId("said").textContent = text;
}

function tell(error) {
  if (error.status === 401) return signedOut();
  byId("banner").textContent = sentence(error);
  byId("banner").hidden = false;
  byId("live").classList.add("late");
}

async function refresh() {
  const limit = `?limit=${SHOWN_MAX}`;
  const [status, listed, movements, deliveries] = await Promise.all([
    ask("/api/status"),
    ask("/api/segments"),
    ask(`/api/movements${limit}`),
    ask(`/api/deliveries${limit}`),
  ]);
  segments = listed.items;
  await refreshSources();
  await refreshPerson();
  const names = segments.map((item) => [item.key, item.name]);
  show("counts", status, buildCounts);
  show("segments", segments.filter((item) => item.state === "active"), buildSegments);
  show("movements", { items: movements.items, names }, (data) => buildMovements(data.items));
  show("deliveries", { items: deliveries.items, names }, (data) => buildDeliveries(data.items));
  showPerson();
  byId("live-text").textContent = words.text("as_of", { position: numbers.format(status.position) });
  byId("live").classList.remove("late");
  byId("banner").hidden = true;
}

async function refreshSources() {
  const named = new Set((person.answer?.traits ?? []).map((trait) => trait.source_id).filter(Boolean));
  if ([...named].every((id) => sources.has(id))) return;
  const { items } = await ask("/api/sources");
  sources = new Map(items.map((item) => [item.id, nameOf(item)]));
  for (const id of named) if (!sources.has(id)) sources.set(id, id);
}

function retime() {
  for (const node of document.querySelectorAll("time")) node.textContent = ago(node.getAttribute("datetime"));
}

async function poll() {
  if (!document.hidden) {
    try {
      await refresh();
      retime();
    } catch (error) {
      tell(error);
    }
  }
  if (timer !== null) timer = setTimeout(poll, POLL_MS);
}

function signedIn(token) {
  csrfToken = token;
  byId("sign-in").hidden = true;
  for (const id of ["desk", "live", "sign-out"]) byId(id).hidden = false;
  if (location.pathname !== "/") history.replaceState(null, "", `/${location.hash}`);
  timer = 0;
  poll();
  const ref = decodeURIComponent(location.hash.slice(1));
  if (ref.startsWith("pro_")) {
    byId("person-ref").value = ref;
    lookUp(ref, false);
  }
}

function signedOut() {
  clearTimeout(timer);
  timer = csrfToken = null;
  Object.assign(person, { ref: "", answer: null, explained: new Map() });
  segments = [];
  sources = new Map();
  shown.clear();
  for (const id of ["counts", "segments", "movements", "deliveries", "person"]) byId(id).replaceChildren();
  for (const id of ["desk", "live", "sign-out", "banner"]) byId(id).hidden = true;
  byId("sign-in").hidden = false;
  byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  const field = byId("token");
  const problem = byId("sign-in-problem");
  problem.textContent = "";
  // A header carries plain ASCII only, and so does every token.
  if (!/^[\x21-\x7e]+$/.test(field.value.trim())) {
    problem.textContent = words.text("token_shape");
    return;
  }
  try {
    const session = await ask("/api/session", { method: "POST", headers: { Authorization: `Bearer ${field.value.trim()}` } });
    field.value = "";
    signedIn(session.csrf_token);
    byId("main").focus();
  } catch (error) {
    problem.textContent = sentence(error);
  }
}

async function start() {
  words = await loadWords(language);
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words.text(node.dataset.word);
  byId("sign-in-form").addEventListener("submit", signIn);
  byId("sign-out").addEventListener("click", () => ask("/api/session", { method: "DELETE" }).then(signedOut, tell));
  byId("person-form").addEventListener("submit", (event) => {
    event.preventDefault();
    lookUp(byId("person-ref").value.trim(), false);
  });
  const session = await ask("/api/session").catch((error) => ({ signed_in: false, error }));
  if (session.signed_in) return signedIn(session.csrf_token);
  signedOut();
  if (session.error) byId("sign-in-problem").textContent = sentence(session.error);
  else if (location.pathname === "/sign-in") byId("sign-in-problem").textContent = words.text("link_used");
}

start();
