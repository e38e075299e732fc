// Verdicts of cleanup policies: what becomes of a tag or manifest, why, and on what evidence.
import { html } from "./ui.js";
import { href } from "./address.js";
import { number, plural, SOURCES, visible } from "./format.js";
import { Badge, Digest, Name, Size, Table, Time } from "./parts.js";

const TONES = { delete: "bad", hold: "warn", keep: "good" };
const MOST_SIBLINGS = 5;

export const DECISIONS = ["delete", "hold", "keep"];

export function Verdicts({ items, caption }) {
  return html`<${Table} caption=${caption} items=${items} by=${(each) => `${each.policy} ${each.repository} ${each.tag ?? ""} ${each.digest ?? ""}`} columns=${[
    { title: "What", header: true, wide: true, cell: (each) => html`<${Subject} of=${each} />` },
    { title: "Decision", cell: (each) => html`<${Badge} tone=${TONES[each.decision] || "plain"}>${each.decision}<//>` },
    { title: "Why", wide: true, cell: (each) => html`<${Why} of=${each} />` },
    { title: "Policy, rule", cell: (each) => html`<bdi>${visible(each.policy)}</bdi>${each.rule && html`<br /><bdi class="note">${visible(each.rule)}</bdi>`}` },
    { title: "Goes at the earliest", cell: (each) => html`<${Time} at=${each.expires_at} />` },
    { title: "Evidence", wide: true, cell: (each) => html`<${Evidence} of=${each.evidence} />` },
    { title: "Other tags of the digest", wide: true, cell: (each) => html`<${Siblings} of=${each} />` },
  ]} />`;
}

function Subject({ of }) {
  const to = of.tag === null ? ["repositories", of.repository, "manifests", of.digest] : ["repositories", of.repository, "tags", of.tag];
  if (of.tag !== null) return html`<${Name} text=${`${of.repository}:${of.tag}`} href=${href(to)} />`;
  return html`<${Name} text=${of.repository} /> <${Digest} digest=${of.digest} href=${of.digest && href(to)} />`;
}

function Why({ of }) {
  const also = of.also.map((each) => (each.rule ? `${each.reason} (${each.rule})` : each.reason));
  return html`<bdi>${visible(of.text)}</bdi> <code class="note">${visible(of.reason)}</code>
    ${of.alarms.map((each) => html` <${Badge} tone="bad">${visible(each)}<//>`)}
    ${also.length > 0 && html`<br /><bdi class="note">also: ${visible(also.join(", "))}</bdi>`}`;
}

function Siblings({ of }) {
  if (of.siblings.length === 0) return html`<span class="none">–</span>`;
  const rest = of.siblings.length - MOST_SIBLINGS;
  return html`<ul class="inline">${of.siblings.slice(0, MOST_SIBLINGS).map((tag) => html`<li><${Name} text=${tag} href=${href(["repositories", of.repository, "tags", tag])} /></li>`)}</ul>${rest > 0 && ` and ${number(rest)} more`}`;
}

function Evidence({ of }) {
  if (of.length === 0) return html`<span class="none">–</span>`;
  return html`<ul class="evidence">${of.map((each) => html`<li>${statement(each)}</li>`)}</ul>`;
}

function statement(each) {
  if (each.what === "pulled") {
    const seen = each.earliest ? html`last pull seen <${Time} at=${each.earliest} />` : "no pull was seen";
    const missed = each.missed_until && html`, <span class="note">pulls may have been missed until <${Time} at=${each.missed_until} />${each.because && `: ${visible(each.because)}`}</span>`;
    return html`${seen}${missed}`;
  }
  if (each.what === "pulls_ignored") {
    return html`${plural(each.times, "pull")} by <bdi>${visible(each.by.join(", "))}</bdi> left out of account, the last <${Time} at=${each.latest} />`;
  }
  const [word, meaning] = SOURCES[each.source] || [each.source, ""];
  return html`${visible(each.what)} ${instant(each)}${word && html` <span class="note" title=${meaning}>${visible(word)}</span>`}`;
}

function instant({ earliest, latest }) {
  if (earliest === latest) return html`<${Time} at=${latest} />`;
  if (!earliest) return html`by <${Time} at=${latest} />`;
  return html`between <${Time} at=${earliest} /> and <${Time} at=${latest} />`;
}

// What each policy comes to.
export function Outcomes({ items }) {
  return html`<${Table} caption="What each policy comes to" items=${items} by=${(each) => each.id} columns=${[
    { title: "Policy", header: true, cell: (each) => html`<bdi>${visible(each.id)}</bdi>` },
    { title: "Mode", cell: (each) => visible(each.mode) },
    { title: "Delete", number: true, cell: (each) => number(each.delete) },
    { title: "Hold", number: true, cell: (each) => number(each.hold) },
    { title: "Keep", number: true, cell: (each) => number(each.keep) },
    { title: "Frees", number: true, cell: (each) => html`<${Size} bytes=${each.freed_bytes} />` },
    { title: "Brake", wide: true, cell: (each) => (each.brake.length > 0 ? html`<${Badge} tone="bad">stopped<//> <bdi>${visible(each.brake.join("; "))}</bdi>` : html`<span class="none">within</span>`) },
    { title: "Notes", wide: true, cell: (each) => (each.notes.length > 0 ? html`<bdi>${visible(each.notes.join(" · "))}</bdi>` : html`<span class="none">–</span>`) },
  ]} />`;
}
