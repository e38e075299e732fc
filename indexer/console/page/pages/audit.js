// The audit log: filters, following it live, the proof of an entry.
import { html, useEffect, useRef, useState } from "../ui.js";
import { pick } from "../address.js";
import { follow, Refused, useGet } from "../api.js";
import { number, visible } from "../format.js";
import { Entries } from "../entries.js";
import { Answer, Badge, Empty, Filters, Freshness, Heading, Pager } from "../parts.js";
import { WORDS } from "../words.js";

const SOURCES = [["notification", "notification"], ["reconcile", "reconcile"], ["verify", "verify"], ["storage", "storage"], ["policy", "policy"], ["operator", "operator"], ["access-log", "access log"]];
const FIELDS = [
  { name: "repository", label: "Repository", kind: "text", hint: "team/app" },
  { name: "tag", label: "Tag", kind: "text", hint: "latest" },
  { name: "action", label: "Action", kind: "select", options: WORDS.actions.map((each) => [each, each]) },
  { name: "actor", label: "Actor", kind: "text" },
  { name: "occurred_after", label: "After", kind: "text", hint: "1d, 2026-01-31" },
  { name: "occurred_before", label: "Before", kind: "text", hint: "1h", more: true },
  { name: "source", label: "Source", kind: "select", options: SOURCES, more: true },
  { name: "digest", label: "Digest", kind: "text", hint: "sha256:…", more: true },
  { name: "prefix", label: "Repository begins with", kind: "text", hint: "team/", more: true },
  { name: "address", label: "Client address", kind: "text", hint: "192.0.2.7", more: true },
];
const FILTERS = FIELDS.map((field) => field.name);
const MOST_LIVE = 200;
const AGAIN_MS = 3000;

export default function Audit({ place }) {
  const [live, setLive] = useState(false);
  const query = pick(place.query, [...FILTERS, "limit", "after", "before", "count"]);
  const found = useGet("audit", query);
  const toggle = html`<button type="button" aria-pressed=${live ? "true" : "false"} onClick=${() => setLive(!live)}>${live ? "Stop following" : "Follow live"}</button>`;
  return html`<${Heading} actions=${toggle}>Audit log<//>
    <${Filters} place=${place} fields=${FIELDS} error=${found.error} />
    ${live && html`<${Live} query=${pick(place.query, FILTERS)} key=${JSON.stringify(pick(place.query, FILTERS))} />`}
    <${Answer} of=${found} what="the audit log" empty=${html`<${Empty} hint="Remove a filter, or choose another time.">No entry matches.<//>`}>${(page) => html`
      <${Entries} items=${page.items} caption="Audit log, newest first" details />
      <${Pager} place=${place} page=${page} unit="entries" />
      <${Freshness} index=${page.index} />`}<//>`;
}

// Sealed entries as they come. A stream that ends is continued behind the last one, so nothing is missing.
function Live({ query }) {
  const [items, setItems] = useState([]);
  const [state, setState] = useState("connecting");
  const last = useRef("");
  useEffect(() => {
    const stop = new AbortController();
    const each = ({ id, data }) => {
      if (id) last.current = id;
      if (data) setItems((old) => [data.data, ...old].slice(0, MOST_LIVE));
    };
    const forever = async () => {
      while (!stop.signal.aborted) {
        try {
          await follow(query, { signal: stop.signal, each, last: () => last.current, opened: () => setState("following") });
        } catch (error) {
          if (stop.signal.aborted) return;
          if (error instanceof Refused && error.status < 500) {
            setState(visible(error.message));
            return;
          }
          setState("interrupted, connecting again");
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    };
    forever();
    return () => stop.abort();
  }, []);
  return html`<section class="live" aria-labelledby="live-title">
    <div class="line"><h2 id="live-title">Live</h2><span class="note" role="status"><${Badge} tone=${state === "following" ? "good" : "plain"}>${state}<//> ${number(items.length)} new, newest first</span></div>
    ${items.length > 0 ? html`<${Entries} items=${items} caption="New entries" />` : html`<${Empty} hint="Entries appear here when they are sealed, some seconds after the event.">Nothing new yet.<//>`}
  </section>`;
}
