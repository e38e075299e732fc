// Asks /api/v1, as any client does. What signs a request in is kept in this module's memory and nowhere else:
// not in the address, not in storage, not in a cookie. A reload forgets it.
import { useEffect, useState } from "./ui.js";

const ROOT = new URL("api/v1", document.baseURI.replace(/#.*/, ""));
const RENEW_BEFORE_MS = 30_000;
const MOST_SCOPES = 60;

// The actions that are asked for where a repository is read, and where a change in it could be offered: only for what is
// on record there. GitLab, asked for push, makes a record of a repository that does not exist.
const READ = "pull";
const ACT = "pull,push,delete";

// { kind: "token", token, name, mayAct, mayAsk } or { kind: "user", name, token, renewal, expires, scopes, mayAsk, refused }
let signedIn = null;
const listeners = new Set();

export class Refused extends Error {
  constructor(status, problem, challenge) {
    super(problem.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = problem.code || "";
    this.parameter = problem.parameter || "";
    this.allowed = problem.allowed || "";
    this.challenge = challenge || "";
  }
}

export class Unreachable extends Error {}

// `kind`: user, operator or token. An operator's name is the one that the audit log has.
export function identity() {
  if (signedIn === null) return null;
  if (signedIn.kind === "user") return { kind: "user", name: signedIn.name };
  return signedIn.mayAct ? { kind: "operator", name: signedIn.name } : { kind: "token", name: "token" };
}

// Whether lists across repositories are complete: a user without the right to the catalog sees what was opened.
export function seesEverything() {
  return signedIn?.kind !== "user" || signedIn.granted.includes("registry:catalog:*");
}

// Whether a job of a kind in a repository may be asked for, as the server says. Of a user: once learnRights is done.
export function mayAsk(repository, kind) {
  if (signedIn?.mayAct) return true;
  const may = signedIn?.mayAsk ?? {};
  return Object.hasOwn(may, repository) && may[repository].includes(kind);
}

// Asks the realm for a user's rights to change these repositories, all at once. Where it refuses, there are none.
export async function learnRights(repositories) {
  if (signedIn?.kind === "user") await prepare(repositories, ACT).catch(() => {});
}

export function path(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

// Returns the decoded body. `repository`: its pull scope is asked for first, where a user signed in by name.
export async function get(where, query = {}, { signal, repository } = {}) {
  const response = await ask(where, query, { signal, repository });
  return response.json();
}

export async function text(where, options = {}) {
  return (await ask(where, {}, { ...options, accept: "text/plain" })).text();
}

// Asks for a change. Returns what the server answers.
export async function change(method, where, body, { query = {}, headers = {} } = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await ask(where, query, { method, ...sent, headers: { ...type, ...headers } });
  return response.json();
}

// Calls `each` with every event of the feed, until `signal` is aborted. Returns when the server ends the stream.
export function follow(query, { signal, each, last, opened }) {
  const headers = last() ? { "Last-Event-ID": last() } : {};
  return stream("feed", last() ? query : { ...query, from: "now" }, { signal, headers, each, opened });
}

// Calls `each` with every event of a job, the first at once. Returns when the job or the stream has ended.
export function followJob(id, { signal, each }) {
  return stream(`jobs/${path(id)}/events`, {}, { signal, each });
}

async function stream(where, query, { signal, headers, each, opened = () => {} }) {
  const response = await ask(where, query, { signal, accept: "text/event-stream", headers });
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) each(event(part));
  }
}

function event(part) {
  const found = { id: "", data: "" };
  for (const line of part.split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const name = line.slice(0, at);
    const value = line.slice(at + 1).replace(/^ /, "");
    if (name === "id") found.id = value;
    if (name === "data") found.data += value;
  }
  return { id: found.id, data: found.data ? JSON.parse(found.data) : null };
}

async function ask(where, query, { signal, repository, accept = "application/json", headers = {}, method, body } = {}) {
  if (signedIn?.kind === "user") await prepare(repository ? [repository] : [], READ);
  const url = new URL(ROOT);
  if (where) url.pathname += `/${where}`;
  url.search = String(new URLSearchParams(query));
  const bearer = signedIn ? { Authorization: `Bearer ${signedIn.token}` } : {};
  const response = await send(url, { signal, method, body, headers: { Accept: accept, ...bearer, ...headers } });
  if (!response.ok) throw await refusal(response);
  return response;
}

async function send(url, options) {
  try {
    return await fetch(url, { cache: "no-store", credentials: "omit", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The indexer does not answer.");
  }
}

async function refusal(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy in between answered with something else; the status says enough.
  }
  return new Refused(response.status, problem, response.headers.get("WWW-Authenticate"));
}

// --- signing in ------------------------------------------------------------------------------------------

export async function signInWithToken(token) {
  const headers = { Authorization: `Bearer ${token}` };
  const response = await send(new URL(ROOT), { headers });
  if (!response.ok) throw await refusal(response);
  const session = await send(new URL(`${ROOT}/session`), { headers });
  if (!session.ok) throw await refusal(session);
  const { name, may_act: mayAct, may_ask: mayAsk } = await session.json();
  become({ kind: "token", token, name, mayAct, mayAsk });
}

export async function signInWithPassword(name, password) {
  const scopes = ["registry:catalog:*", "registry:audit:*"];
  become({ kind: "user", name, scopes, refused: new Set(), ...(await session({ username: name, password, scopes })) });
}

export function signOut() {
  become(null);
}

let offered = null;

// How one can sign in here, and where clients pull from; asked once.
export function whatIsOffered() {
  offered ??= askWhatIsOffered().catch((error) => {
    offered = null;
    throw error;
  });
  return offered;
}

async function askWhatIsOffered() {
  const response = await send(new URL(`${ROOT}/session`), {});
  if (!response.ok) throw await refusal(response);
  return response.json();
}

function become(next) {
  signedIn = next;
  for (const listener of listeners) listener();
}

let preparing = Promise.resolve();

// Renews a user's token before it ends, and adds the scopes of repositories. One at a time.
function prepare(repositories, actions) {
  preparing = preparing.catch(() => {}).then(() => renew(repositories, actions));
  return preparing;
}

async function renew(repositories, actions) {
  const held = signedIn;
  if (held?.kind !== "user") return;
  const missing = repositories.filter((name) => !asked(held, name, actions));
  if (missing.length === 0 && Date.now() < held.expires - RENEW_BEFORE_MS) return;
  const others = held.scopes.filter((each) => each.startsWith("repository:") && !missing.includes(each.split(":")[1]));
  const kept = others.slice(-Math.max(MOST_SCOPES - missing.length, 1));
  const added = missing.slice(0, MOST_SCOPES).map((name) => `repository:${name}:${actions}`);
  const scopes = ["registry:catalog:*", "registry:audit:*", ...kept, ...added];
  try {
    Object.assign(held, await session({ renewal: held.renewal, scopes }), { scopes });
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      if (actions === ACT && missing.length > 0) missing.forEach((name) => held.refused.add(name));
      else if (signedIn === held) signOut();
    }
    throw error;
  }
}

// Whether these actions on a repository were asked for. Those that change it are asked for once if the realm refuses.
function asked(held, name, actions) {
  if (held.scopes.includes(`repository:${name}:${ACT}`)) return true;
  return actions === ACT ? held.refused.has(name) : held.scopes.includes(`repository:${name}:${READ}`);
}

async function session(body) {
  const response = await send(new URL(`${ROOT}/session`), {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await refusal(response);
  const given = await response.json();
  return { token: given.token, renewal: given.renewal, granted: given.granted, mayAsk: given.may_ask, expires: Date.now() + given.expires_in * 1000 };
}

// --- in components ---------------------------------------------------------------------------------------

export function useIdentity() {
  const [, again] = useState(0);
  useEffect(() => {
    const listener = () => again((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return identity();
}

// The host that clients pull from, for commands; a placeholder while it is not known.
export function useRegistryHost() {
  const [host, setHost] = useState("REGISTRY");
  useEffect(() => {
    whatIsOffered().then((found) => found.registry && setHost(found.registry), () => {});
  }, []);
  return host;
}

// { data, error, loading, reload }: asks again when the question or the signed-in user changes. `where` null: nothing.
export function useGet(where, query = {}, { repository, every } = {}) {
  const [state, setState] = useState({ data: null, error: null, loading: where !== null, of: null });
  const [round, setRound] = useState(0);
  const who = useIdentity();
  const question = JSON.stringify([where, query]);
  const asker = who ? `${who.kind} ${who.name}` : "";
  useEffect(() => {
    if (where === null) return undefined;
    const stop = new AbortController();
    let timer = 0;
    const once = async () => {
      try {
        const data = await get(where, query, { signal: stop.signal, repository });
        setState({ data, error: null, loading: false, of: where });
      } catch (error) {
        if (stop.signal.aborted) return;
        setState((old) => ({ data: old.of === where ? old.data : null, error, loading: false, of: where }));
      }
      if (every && !stop.signal.aborted) timer = setTimeout(turn, every);
    };
    const turn = () => (document.hidden ? (timer = setTimeout(turn, every)) : once());
    setState((old) => ({ ...old, data: old.of === where ? old.data : null, error: null, loading: true, of: where }));
    once();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [question, asker, round]);
  const current = state.of === where ? state : { data: null, error: null, loading: where !== null };
  return { ...current, reload: () => setRound((count) => count + 1) };
}
