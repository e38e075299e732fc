// Entries of the audit log as a table, with the proof of one.
import { html, useState } from "./ui.js";
import { href } from "./address.js";
import { LOG_SOURCES, number, visible } from "./format.js";
import { Badge, Digest, Facts, Name, Table, Time } from "./parts.js";
import { Proof } from "./proof.js";

const TONES = { "tag.created": "good", "tag.moved": "warn", "tag.deleted": "bad", "manifest.deleted": "bad", "content.deleted": "bad", "blob.deleted": "bad", "tag.broken": "bad", "request.denied": "bad", "request.failed": "bad" };

export function Entries({ items, caption, details = false }) {
  const [open, setOpen] = useState(null);
  const columns = [
    { title: "Time", header: true, cell: (each) => html`<${Occurred} entry=${each} />` },
    { title: "Action", cell: (each) => html`<${Badge} tone=${TONES[each.action] || "plain"}>${each.action}<//>` },
    { title: "What", wide: true, cell: (each) => html`<${What} entry=${each} />` },
    { title: "Digest", cell: (each) => html`<${Moved} entry=${each} />` },
    { title: "Actor", cell: (each) => (each.actor ? html`<bdi>${visible(each.actor.name)}</bdi>` : html`<span class="none">–</span>`) },
    { title: "Source", cell: (each) => LOG_SOURCES[each.source] || each.source },
  ];
  if (details) {
    columns.push({
      title: html`<span class="hidden">Details</span>`,
      cell: (each) => html`<button type="button" class="copy" aria-expanded=${open === each.id ? "true" : "false"} aria-label=${`Details of the entry ${each.position ?? each.id}`} onClick=${() => setOpen(open === each.id ? null : each.id)}>${open === each.id ? "close" : "details"}</button>`,
    });
  }
  const chosen = details && items.find((each) => each.id === open);
  return html`${chosen && html`<${Details} key=${chosen.id} entry=${chosen} close=${() => setOpen(null)} />`}<${Table} caption=${caption} columns=${columns} items=${items} by=${(each) => each.id} row=${(each) => (each.id === open ? "chosen" : "")} />`;
}

function Occurred({ entry }) {
  if (!entry.occurred_between) return html`<${Time} at=${entry.occurred_at} />`;
  const [from, to] = entry.occurred_between;
  return html`<span class="nowrap"><span class="note">by </span><${Time} at=${entry.occurred_at} /><span class="hidden"> between ${from} and ${to}</span></span>`;
}

function What({ entry }) {
  if (!entry.repository) return html`<span class="none">–</span>`;
  const to = href(["repositories", entry.repository]);
  if (!entry.tag) return html`<${Name} text=${entry.repository} href=${to} />`;
  return html`<${Name} text=${`${entry.repository}:${entry.tag}`} href=${href(["repositories", entry.repository, "tags", entry.tag])} />`;
}

function Moved({ entry }) {
  const to = (digest) => entry.repository && entry.action.startsWith("blob") === false && href(["repositories", entry.repository, "manifests", digest]);
  if (!entry.previous_digest || entry.previous_digest === entry.digest) return html`<${Digest} digest=${entry.digest} href=${entry.digest && to(entry.digest)} />`;
  return html`<span class="nowrap"><${Digest} digest=${entry.previous_digest} href=${to(entry.previous_digest)} /> <span aria-label="became">→</span> <${Digest} digest=${entry.digest} href=${entry.digest && to(entry.digest)} /></span>`;
}

function Details({ entry, close }) {
  const { request, registry } = entry;
  const rest = Object.keys(entry.detail || {}).length > 0 && html`<code class="wrap"><bdi>${visible(JSON.stringify(entry.detail))}</bdi></code>`;
  const text = (value) => value && html`<bdi>${visible(value)}</bdi>`;
  return html`<aside class="card details" aria-label="Details of the entry">
    <div class="line"><h2>Entry ${entry.position === null ? "not sealed yet" : number(entry.position)}</h2><div class="actions"><button type="button" onClick=${close}>Close</button></div></div>
    <${Facts} rows=${[
      ["Occurred", html`<${Time} at=${entry.occurred_at} />`],
      ["Between", entry.occurred_between ? html`<${Time} at=${entry.occurred_between[0]} /> and <${Time} at=${entry.occurred_between[1]} />` : false],
      ["Recorded", html`<${Time} at=${entry.recorded_at} />`],
      ["Digest", entry.digest && html`<code class="wrap">${entry.digest}</code>`],
      ["Previous digest", entry.previous_digest ? html`<code class="wrap">${entry.previous_digest}</code>` : false],
      ["Media type", text(entry.media_type)],
      ["Actor", text(entry.actor?.name)],
      ["Address", text(request?.address)],
      ["User agent", text(request?.user_agent)],
      ["Request", text([request?.method, request?.host, request?.id].filter(Boolean).join(" "))],
      ["Registry process", text([registry?.address, registry?.instance_id].filter(Boolean).join(" "))],
      ["Event id", text(entry.event_id)],
      ["Details", rest],
    ]} />
    <${Proof} position=${entry.position} />
  </aside>`;
}

